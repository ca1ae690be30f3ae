//! What an operator should read in the log. The data plane has no log of its own: Python asks for what is new now and
//! then, and writes it to its own ([`crate::program`]).

/// How much a line matters, by the names that Python's logging gives its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub level: Level,
    pub text: String,
}

// === impl Level ===

impl Level {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
        }
    }
}

// === impl Notice ===

impl Notice {
    pub fn info(text: String) -> Self {
        let level = Level::Info;
        Self { level, text }
    }

    pub fn warning(text: String) -> Self {
        let level = Level::Warning;
        Self { level, text }
    }
}
