//! What a reload may change of a cluster, parsed once.

use std::time::Duration;

use http::header::HeaderName;

use super::hash_field::HashField;
use super::method::Protocol;
use super::retry::CodeSet;
use crate::balance::{self, MILLISECOND};
use crate::config::ClusterConfig;
use crate::grpc::metadata::Priority;

#[derive(Clone)]
pub struct Settings {
    pub timeout: Duration,
    pub attempt_timeout: Option<Duration>,
    pub restart_wait: Duration,
    pub stream_idle_timeout: Duration,
    pub max_attempts: u32,
    pub idempotent: bool,
    pub hedge: bool,
    pub retry_codes: CodeSet,
    pub max_in_flight: usize,
    /// How much its calls matter at most.
    pub priority: Option<Priority>,
    /// Where the policy is `maglev`.
    pub hash_key: Option<Box<str>>,
    pub hash_field: Option<HashField>,
    failure_codes: [CodeSet; 3],
    pub balance: balance::Settings,
    pub config: ClusterConfig,
}

// === impl Settings ===

impl Settings {
    /// # Errors
    /// Names the value that the data plane does not know.
    pub fn new(config: &ClusterConfig) -> Result<Self, String> {
        let codes = |names: &[String]| {
            CodeSet::from_names(names).map_err(|error| format!("cluster {}: {error}", config.name))
        };
        if !balance::NAMES.contains(&config.policy.as_str()) {
            let known = balance::NAMES.join(", ");
            return Err(format!(
                "cluster {}: unknown policy {}; known: {known}",
                config.name, config.policy
            ));
        }
        if let Some(endpoint) = config
            .endpoints
            .iter()
            .find(|endpoint| !(1..=65535).contains(&endpoint.weight))
        {
            let (name, address, weight) = (&config.name, &endpoint.address, endpoint.weight);
            return Err(format!(
                "cluster {name}: weight {weight} of {address} is not in 1..=65535"
            ));
        }
        let failure = &config.failure_codes;
        Ok(Self {
            timeout: Duration::from_millis(config.timeout_ms),
            attempt_timeout: config.attempt_timeout_ms.map(Duration::from_millis),
            restart_wait: Duration::from_millis(config.restart_wait_ms),
            stream_idle_timeout: Duration::from_millis(config.stream_idle_timeout_ms),
            max_attempts: config.max_attempts.max(1),
            idempotent: config.idempotent,
            hedge: config.hedge,
            retry_codes: codes(&config.retry_codes)?,
            failure_codes: [
                codes(&failure.tfs)?,
                codes(&failure.seldon)?,
                codes(&failure.oip)?,
            ],
            max_in_flight: config.max_in_flight,
            priority: priority(config)?,
            hash_key: hash_key(config)?,
            hash_field: hash_field(config)?,
            balance: balance_settings(config),
            config: config.clone(),
        })
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// gRPC codes that count against an endpoint, by the protocol of the method called.
    pub fn failure_codes(&self, protocol: Protocol) -> CodeSet {
        self.failure_codes[match protocol {
            Protocol::Tfs | Protocol::None => 0,
            Protocol::Seldon => 1,
            Protocol::Oip => 2,
        }]
    }
}

fn priority(config: &ClusterConfig) -> Result<Option<Priority>, String> {
    let Some(name) = &config.priority else {
        return Ok(None);
    };
    let unknown = || {
        format!(
            "cluster {}: priority {name} is not high, normal or low",
            config.name
        )
    };
    Priority::from_name(name).map(Some).ok_or_else(unknown)
}

/// The metadata key that `maglev` looks at.
fn hash_key(config: &ClusterConfig) -> Result<Option<Box<str>>, String> {
    let Some(name) = config
        .hash_key
        .as_ref()
        .filter(|_| config.policy == "maglev")
    else {
        return Ok(None);
    };
    HeaderName::from_lowercase(name.as_bytes())
        .map(|name| Some(name.as_str().into()))
        .map_err(|_| {
            format!("cluster {}: hash_key {name} is no metadata key: lower-case letters, digits, `_`, `-` and `.`", config.name)
        })
}

/// The field of the request that `maglev` looks at.
fn hash_field(config: &ClusterConfig) -> Result<Option<HashField>, String> {
    let named = config.hash_field.as_deref();
    named
        .filter(|_| config.policy == "maglev")
        .map(HashField::new)
        .transpose()
        .map_err(|error| format!("cluster {}: {error}", config.name))
}

/// What the balancer may do; the original's rule stands alone.
fn balance_settings(config: &ClusterConfig) -> balance::Settings {
    if config.policy == "dl" {
        return balance::Settings::original();
    }
    balance::Settings {
        policy: config.policy.clone(),
        in_flight: config.compare_in_flight,
        latency: config.avoid_slow,
        ejection: config.eject,
        admission: config.admit_by_deadline,
        load_reports: config.use_load_reports,
        slow_start: config.slow_start_ms.saturating_mul(MILLISECOND),
        slow_start_new: config.slow_start_new_ms.saturating_mul(MILLISECOND),
        max_in_flight: config.max_in_flight_per_endpoint,
    }
}
