//! When calls are due and of which class they are: at a fixed rate, or from a file.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver};

/// One call to come: when it is due after the start, and the number of its class.
pub type Arrival = (Duration, usize);

/// A call of the first class each 1/rate seconds.
#[must_use]
pub fn steady(rate: f64, seconds: f64) -> Box<dyn Iterator<Item = Arrival> + Send> {
    let numbers = std::iter::successors(Some(0.0), |number| Some(number + 1.0));
    Box::new(
        numbers
            .map(move |number| number / rate)
            .take_while(move |at| *at < seconds)
            .map(|at| (Duration::from_secs_f64(at), 0)),
    )
}

/// Read lines of `DUE_US CLASS`, in order of time; CLASS counts from 0.
///
/// # Errors
/// A line of another form, or a class that is not there.
pub fn read(text: &str, classes: usize) -> Result<Vec<Arrival>, String> {
    text.lines()
        .map(|line| {
            let wrong = || format!("{line}: DUE_US CLASS is needed, CLASS below {classes}");
            let (due, class) = line.split_once(' ').ok_or_else(wrong)?;
            let due = due.parse().map_err(|_| wrong())?;
            let class = class.parse().map_err(|_| wrong())?;
            (class < classes)
                .then_some((Duration::from_micros(due), class))
                .ok_or_else(wrong)
        })
        .collect()
}

/// A thread that says when calls are due: the runtime's timers tick in ms, which would be in every latency.
#[must_use]
pub fn pace(
    arrivals: impl Iterator<Item = Arrival> + Send + 'static,
    start: Instant,
) -> UnboundedReceiver<Arrival> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // Not joined: it ends within one interval of the receiver's drop, or with the process.
    std::thread::spawn(move || {
        for arrival in arrivals {
            std::thread::sleep(arrival.0.saturating_sub(start.elapsed()));
            if sender.send(arrival).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_begins_at_once_and_ends_before_its_time_is_up() {
        let due: Vec<_> = steady(4.0, 0.75).collect();
        let at = |ms| (Duration::from_millis(ms), 0);
        assert_eq!(due, [at(0), at(250), at(500)]);
    }

    #[test]
    fn a_line_with_a_class_that_is_not_there_is_refused() {
        assert_eq!(
            read("5 0\n9 1", 2).unwrap()[1],
            (Duration::from_micros(9), 1)
        );
        assert!(
            read("5 2", 2)
                .unwrap_err()
                .contains("5 2: DUE_US CLASS is needed")
        );
    }
}
