//! The request path of the access service. Read `handle` first: it is the only orchestrator.

pub mod access_log;
mod address;
mod affinity;
mod answer;
mod ask;
mod attempt;
mod body;
pub mod budget;
mod call;
pub mod caller;
mod checks;
mod clock;
pub mod cluster;
mod exchange;
mod failure;
pub mod handle;
mod hash_field;
mod health;
mod hedge;
mod hops;
mod listing;
mod loaded;
mod loading;
pub mod local;
pub mod method;
mod nearest;
mod not_loaded;
pub mod orders;
mod pool;
pub mod recorder;
mod relay;
mod repository;
pub mod retry;
pub mod route;
pub mod route_key;
pub mod runner;
mod settings;
pub mod split;
pub mod state;
mod trace;
mod unloaded;
mod verdict;
pub mod watch;
pub mod worker;

#[cfg(test)]
mod budget_tests;
