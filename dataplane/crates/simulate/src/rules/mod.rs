//! The rules by name: the product's policies, and ports of others', each written from the description of its rule.

mod envoy;
mod grpc;
mod grpc_weighted;
mod linkerd;
mod nginx;
mod ours;
mod prequal;
mod seed;

use dl_core::POLICIES;

use crate::rule::Rule;

/// Names of the ports.
pub const OTHERS: &[&str] = &[
    "nginx",
    "nginx-least-conn",
    "envoy",
    "envoy-least-request",
    "grpc",
    "grpc-weighted",
    "linkerd",
    "linkerd-breaker",
    "prequal",
    "seed",
];

/// Make the rule of one proxy.
///
/// # Errors
/// The name is of no rule.
pub fn rule(name: &str, seed: u64) -> Result<Box<dyn Rule>, String> {
    Ok(match name {
        "nginx" => Box::new(nginx::Nginx::new(false)),
        "nginx-least-conn" => Box::new(nginx::Nginx::new(true)),
        "envoy" => Box::new(envoy::Envoy::new(false, seed)),
        "envoy-least-request" => Box::new(envoy::Envoy::new(true, seed)),
        "grpc" => Box::new(grpc::RoundRobin::new(seed)),
        "grpc-weighted" => Box::new(grpc_weighted::Weighted::new(seed)),
        "linkerd" => Box::new(linkerd::Linkerd::new(false, seed)),
        "linkerd-breaker" => Box::new(linkerd::Linkerd::new(true, seed)),
        "prequal" => Box::new(prequal::Prequal::new(seed)),
        "seed" => Box::new(seed::Seed::default()),
        name => ours::rule(name, seed).ok_or_else(|| {
            let known = [POLICIES, OTHERS].concat().join(", ");
            format!("unknown policy {name}; known: {known}")
        })?,
    })
}
