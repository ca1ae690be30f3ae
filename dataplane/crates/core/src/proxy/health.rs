//! What an endpoint says of itself when it is asked, beside what its calls tell.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

pub use crate::balance::Health;

const ALL: [Health; 4] = [
    Health::Unknown,
    Health::Serving,
    Health::NotServing,
    Health::Loading,
];

/// An endpoint's health, as it was last told.
#[derive(Debug, Default)]
pub struct Reported {
    server: AtomicU8,
    is_loading: AtomicBool,
    /// Somebody asks for a model's state.
    is_asked: AtomicBool,
}

// === impl Reported ===

impl Reported {
    pub fn get(&self) -> Health {
        let server = ALL[usize::from(self.server.load(Relaxed)) % ALL.len()];
        match server {
            Health::NotServing => server,
            _ if self.is_loading.load(Relaxed) => Health::Loading,
            _ => server,
        }
    }

    /// What the server says of itself. True when that is news.
    pub fn set_server(&self, health: Health) -> bool {
        self.server.swap(health as u8, Relaxed) != health as u8
    }

    /// Whether a model is being loaded. True when that is news.
    pub fn set_loading(&self, is_loading: bool) -> bool {
        self.is_loading.swap(is_loading, Relaxed) != is_loading
    }

    /// Ask for a model's state from now on. False when somebody does already.
    pub fn begin_asking(&self) -> bool {
        !self.is_asked.swap(true, Relaxed)
    }

    pub fn end_asking(&self) {
        self.is_asked.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_serve_is_that_whatever_it_loads() {
        let reported = Reported::default();
        assert_eq!(reported.get(), Health::Unknown);
        assert!(reported.set_server(Health::Serving) && !reported.set_server(Health::Serving));
        assert!(reported.set_loading(true));
        assert_eq!(reported.get(), Health::Loading);
        reported.set_server(Health::NotServing);
        assert_eq!(reported.get(), Health::NotServing);
        reported.set_server(Health::Unknown);
        assert!(reported.set_loading(false));
        assert_eq!(reported.get(), Health::Unknown);
    }
}
