//! What an endpoint is told to do wrong, one command a line.

use std::str::FromStr;

/// How calls and connections are treated from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Answer every call.
    Ok,
    /// Answer after this time, ms.
    Slow(u64),
    /// End every call with this gRPC code and no message, after this time, ms.
    Status(u16, u64),
    /// Answer with this HTTP status and no grpc-status, as a wrong program on the port does.
    Http(u16),
    /// RST_STREAM (INTERNAL_ERROR) once the request is read.
    Rst,
    /// RST_STREAM (INTERNAL_ERROR) after response headers and half of the message.
    Half,
    /// RST_STREAM (REFUSED_STREAM) at once: the call was never looked at.
    Refuse,
    /// HEADERS and DATA, then the end, without trailers.
    NoStatus,
    /// Read calls, answer none.
    Hang,
    /// Send response headers, then nothing.
    HangHeaders,
    /// Close open connections with a TCP reset, and new ones on accept.
    Close,
    /// Close open connections, and send bytes on new ones that are no HTTP/2.
    Garbage,
    /// Send a FIN on open connections and on new ones, and keep them open for what the other side sends.
    HalfClose,
    /// Close the listening sockets and open connections: connects are refused by the system.
    Unlisten,
    /// GOAWAY each connection, end the open calls, refuse connects: what a server does that is told to stop.
    Restart,
    /// GOAWAY each connection gracefully after this many calls.
    GoawayEvery(u64),
}

/// Something done once to every open connection; the mode stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// GOAWAY, then finish the open calls and close.
    Goaway,
    /// GOAWAY and close; open calls are lost.
    GoawayNow,
    /// TCP reset.
    Reset,
    /// FIN; nothing is sent or read any more.
    HalfClose,
}

/// One line of the control channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Mode(Mode),
    Event(Event),
    /// What the mode does to calls, it does only to this class of them (none: to all), and to this share.
    Only(Option<String>, f64),
    /// Calls that begin from now on take this factor of their time, and this much longer, ms.
    Pace(f64, f64),
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Command, String> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let mode = match name {
            "ok" => Mode::Ok,
            "slow" => Mode::Slow(number(name, &words, 0)?),
            "status" if words.len() < 2 => Mode::Status(number(name, &words, 0)?, 0),
            "status" => Mode::Status(number(name, &words, 0)?, number(name, &words, 1)?),
            "http" => Mode::Http(number(name, &words, 0)?),
            "rst" => Mode::Rst,
            "half" => Mode::Half,
            "refuse" => Mode::Refuse,
            "nostatus" => Mode::NoStatus,
            "hang" => Mode::Hang,
            "hang-headers" => Mode::HangHeaders,
            "close" => Mode::Close,
            "garbage" => Mode::Garbage,
            "half-close" => Mode::HalfClose,
            "unlisten" => Mode::Unlisten,
            "restart" => Mode::Restart,
            "goaway-every" => Mode::GoawayEvery(number::<u64>(name, &words, 0)?.max(1)),
            "goaway" => return Ok(Command::Event(Event::Goaway)),
            "goaway0" => return Ok(Command::Event(Event::GoawayNow)),
            "reset" => return Ok(Command::Event(Event::Reset)),
            "only" => {
                let class = words.first().filter(|class| **class != "*");
                return Ok(Command::Only(
                    class.map(|class| (*class).to_owned()),
                    number(name, &words, 1)?,
                ));
            }
            "pace" => {
                return Ok(Command::Pace(
                    number(name, &words, 0)?,
                    number(name, &words, 1)?,
                ));
            }
            other => return Err(format!("{other}: unknown command")),
        };
        Ok(Command::Mode(mode))
    }
}

fn number<T: FromStr>(name: &str, words: &[&str], place: usize) -> Result<T, String> {
    let word = words
        .get(place)
        .ok_or_else(|| format!("{name} needs {} number(s)", place + 1))?;
    word.parse()
        .map_err(|_| format!("{word}: not a number that {name} takes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_one_command() {
        assert_eq!("ok".parse(), Ok(Command::Mode(Mode::Ok)));
        assert_eq!(" slow 30 ".parse(), Ok(Command::Mode(Mode::Slow(30))));
        assert_eq!("status 14".parse(), Ok(Command::Mode(Mode::Status(14, 0))));
        assert_eq!("pace 6 0".parse(), Ok(Command::Pace(6.0, 0.0)));
        assert_eq!(
            "only heavy 0.5".parse(),
            Ok(Command::Only(Some("heavy".to_owned()), 0.5))
        );
        assert_eq!("goaway".parse(), Ok(Command::Event(Event::Goaway)));
    }

    #[test]
    fn a_line_that_is_no_command_is_refused_with_its_reason() {
        assert_eq!(
            "slow".parse::<Command>(),
            Err("slow needs 1 number(s)".to_owned())
        );
        assert_eq!(
            "status x".parse::<Command>(),
            Err("x: not a number that status takes".to_owned())
        );
        assert_eq!("".parse::<Command>(), Err(": unknown command".to_owned()));
        assert_eq!(
            "status 70000".parse::<Command>(),
            Err("70000: not a number that status takes".to_owned())
        );
    }
}
