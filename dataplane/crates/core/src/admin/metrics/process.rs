//! What the operating system says about this process, under the names that Prometheus clients share.

use std::fs;
use std::io;

use super::exposition::{Exposition, Kind};

/// Clock ticks per second in /proc: USER_HZ, 100 on every Linux architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Readings of /proc/self.
#[derive(Clone, Copy, Debug)]
struct Reading {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_files: usize,
    max_files: Option<u64>,
}

/// Write `process_*`; where /proc is not readable they are left out, as other clients do.
pub fn write(page: &mut Exposition) {
    let Ok(reading) = read() else { return };
    let mut gauge = |name: &str, help: &str, value: f64| {
        page.family(name, Kind::Gauge, help).sample(&[], value);
    };
    gauge(
        "process_resident_memory_bytes",
        "Resident memory of the process.",
        reading.resident_bytes as f64,
    );
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory of the process.",
        reading.virtual_bytes as f64,
    );
    gauge(
        "process_start_time_seconds",
        "Start of the process, seconds since 1970.",
        reading.start_seconds,
    );
    gauge(
        "process_open_fds",
        "Open file descriptors.",
        reading.open_files as f64,
    );
    if let Some(max) = reading.max_files {
        gauge(
            "process_max_fds",
            "Most file descriptors that may be open.",
            max as f64,
        );
    }
    page.family(
        "process_cpu_seconds_total",
        Kind::Counter,
        "CPU time used by the process, user and system.",
    )
    .sample(&[], reading.cpu_seconds);
}

fn read() -> io::Result<Reading> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (cpu_ticks, start_ticks) = parse_stat(&stat).ok_or(io::ErrorKind::InvalidData)?;
    let status = fs::read_to_string("/proc/self/status")?;
    let boot = fs::read_to_string("/proc/stat")?;
    let limits = fs::read_to_string("/proc/self/limits")?;
    Ok(Reading {
        cpu_seconds: cpu_ticks as f64 / TICKS_PER_SECOND,
        start_seconds: number_after(&boot, "btime").unwrap_or(0) as f64
            + start_ticks as f64 / TICKS_PER_SECOND,
        resident_bytes: number_after(&status, "VmRSS:").unwrap_or(0) * 1024,
        virtual_bytes: number_after(&status, "VmSize:").unwrap_or(0) * 1024,
        // The listing itself holds one.
        open_files: fs::read_dir("/proc/self/fd")?.count().saturating_sub(1),
        max_files: number_after(&limits, "Max open files"),
    })
}

/// (user + system ticks, start in ticks after boot). The command, field 2, may hold spaces and brackets.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let (_, after_command) = stat.rsplit_once(')')?;
    // Field 3 is the first one here: utime is field 14, stime 15, starttime 22 (man 5 proc_pid_stat).
    let field = |number: usize| {
        after_command
            .split_whitespace()
            .nth(number - 3)?
            .parse()
            .ok()
    };
    let (user, system): (u64, u64) = (field(14)?, field(15)?);
    Some((user + system, field(22)?))
}

/// The first number of the line that begins with `key`.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat =
            "12 (a ) (b) S 1 12 12 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 777 1000 20 rest";
        assert_eq!(parse_stat(stat), Some((300, 777)));
        assert_eq!(parse_stat("12 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_files_and_a_start_in_the_past() {
        let reading = read().unwrap();
        assert!(reading.resident_bytes > 100_000);
        assert!(reading.virtual_bytes >= reading.resident_bytes);
        assert!(reading.open_files >= 3);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        assert!(reading.start_seconds <= now + 1.0 && reading.start_seconds > now - 86_400.0);
    }
}
