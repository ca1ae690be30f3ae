//! What an endpoint is told to do wrong, one command a line.

use std::str::FromStr;

/// How calls and connections are treated from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Answer every call.
    Ok,
    /// Answer after this time, ms.
    Slow(u64),
    /// End every call with this gRPC code and no message.
    Status(u16),
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
    /// Close open connections with a TCP reset, and new ones on accept.
    Close,
    /// Close open connections, and send bytes on new ones that are no HTTP/2.
    Garbage,
    /// Close the listening sockets and open connections: connects are refused by the system.
    Unlisten,
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
}

/// One line of the control channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Mode(Mode),
    Event(Event),
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Command, String> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let number: Option<u64> = words
            .next()
            .map(|word| word.parse().map_err(|_| format!("{word}: not a number")))
            .transpose()?;
        let need = || number.ok_or_else(|| format!("{name} needs a number"));
        let code =
            || need().and_then(|n| u16::try_from(n).map_err(|_| format!("{n}: out of range")));
        let mode = match name {
            "ok" => Mode::Ok,
            "slow" => Mode::Slow(need()?),
            "status" => Mode::Status(code()?),
            "http" => Mode::Http(code()?),
            "rst" => Mode::Rst,
            "half" => Mode::Half,
            "refuse" => Mode::Refuse,
            "nostatus" => Mode::NoStatus,
            "hang" => Mode::Hang,
            "close" => Mode::Close,
            "garbage" => Mode::Garbage,
            "unlisten" => Mode::Unlisten,
            "goaway-every" => Mode::GoawayEvery(need()?.max(1)),
            "goaway" => return Ok(Command::Event(Event::Goaway)),
            "goaway0" => return Ok(Command::Event(Event::GoawayNow)),
            "reset" => return Ok(Command::Event(Event::Reset)),
            other => return Err(format!("{other}: unknown command")),
        };
        Ok(Command::Mode(mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_one_command() {
        assert_eq!("ok".parse(), Ok(Command::Mode(Mode::Ok)));
        assert_eq!(" slow 30 ".parse(), Ok(Command::Mode(Mode::Slow(30))));
        assert_eq!("status 14".parse(), Ok(Command::Mode(Mode::Status(14))));
        assert_eq!("goaway".parse(), Ok(Command::Event(Event::Goaway)));
    }

    #[test]
    fn a_line_that_is_no_command_is_refused_with_its_reason() {
        assert_eq!(
            "slow".parse::<Command>(),
            Err("slow needs a number".to_owned())
        );
        assert_eq!(
            "status x".parse::<Command>(),
            Err("x: not a number".to_owned())
        );
        assert_eq!("".parse::<Command>(), Err(": unknown command".to_owned()));
        assert_eq!(
            "status 70000".parse::<Command>(),
            Err("70000: out of range".to_owned())
        );
    }
}
