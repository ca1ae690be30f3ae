//! What must hold for any bytes that others send: one module for each fuzz target. `run` takes bytes and panics where a
//! property is broken; `corpus_tests.rs` gives it the files of `corpus/`, the fuzzer (`make fuzz`) those that it makes up.

#![forbid(unsafe_code)]

mod balance;
mod config;
#[cfg(test)]
mod corpus_tests;
mod credential;
mod head;
mod http2;
mod http2_differences;
mod http2_h2;
mod http2_h2_client;
mod http2_oracle;
mod http2_wire;
mod input;
mod json;
mod load_report;
mod wire;

/// A fuzz target; its corpus is the folder of this name.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: [Target; 8] = [
    Target {
        name: "balance",
        run: balance::run,
    },
    Target {
        name: "config",
        run: config::run,
    },
    Target {
        name: "credential",
        run: credential::run,
    },
    Target {
        name: "head",
        run: head::run,
    },
    Target {
        name: "http2",
        run: http2::run,
    },
    Target {
        name: "json",
        run: json::run,
    },
    Target {
        name: "load_report",
        run: load_report::run,
    },
    Target {
        name: "wire",
        run: wire::run,
    },
];
