//! Route key -> weighted clusters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashMap;

use super::cluster::Cluster;
use super::route_key::{RouteKey, task_id_of};
use crate::admin::metrics::CallStats;
use crate::error::{Error, ErrorKind};

/// Clusters among which the calls of one route are split.
pub struct Split {
    targets: Vec<(Arc<Cluster>, u64)>,
    total: u64,
    calls: AtomicU64,
}

/// One model: its default route and the routes of single versions or labels.
pub struct Model {
    pub name: Box<str>,
    pub stats: Arc<CallStats>,
    pub split: Option<Split>,
    pub versions: BTreeMap<Box<str>, Split>,
}

/// All routes of one routing state.
#[derive(Default)]
pub struct Routes {
    pub models: FxHashMap<Box<str>, Model>,
    pub default: Option<Arc<Cluster>>,
}

/// Where a call goes.
pub struct Route<'a> {
    pub cluster: Arc<Cluster>,
    /// The configured model; none for calls that the default cluster takes.
    pub model: Option<&'a Model>,
}

// === impl Split ===

impl Split {
    /// `targets` with weights; those of weight 0 get nothing. None when nothing is left.
    pub fn new(targets: Vec<(Arc<Cluster>, u32)>) -> Option<Self> {
        let targets: Vec<_> = targets
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(cluster, weight)| (cluster, weight.into()))
            .collect();
        let total = targets.iter().map(|(_, weight)| weight).sum();
        (total > 0).then(|| Self {
            targets,
            total,
            calls: AtomicU64::new(0),
        })
    }

    pub fn targets(&self) -> impl Iterator<Item = (&Arc<Cluster>, u64)> {
        self.targets
            .iter()
            .map(|(cluster, weight)| (cluster, *weight))
    }

    /// The next call's cluster. A Weyl sequence (multiples of the golden ratio) keeps every prefix of the calls
    /// close to the weights, without a lock and without a random source.
    fn pick(&self) -> &Arc<Cluster> {
        let (first, _) = &self.targets[0];
        if self.targets.len() == 1 {
            return first;
        }
        let position = self
            .calls
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut point = ((u128::from(position) * u128::from(self.total)) >> 64) as u64;
        for (cluster, weight) in &self.targets {
            if point < *weight {
                return cluster;
            }
            point -= weight;
        }
        first
    }
}

// === impl Routes ===

impl Routes {
    /// Find the route of a call: (model, version or label) exactly; else the model; else, where the method
    /// allows it, the same for the number at the name's end; else the default cluster.
    ///
    /// # Errors
    /// `no_route`, with the known keys nearest to the one asked for; `bad_route_key` when the call names no model
    /// and there is no default cluster.
    pub fn find(&self, key: &RouteKey, with_task_id: bool) -> Result<Route<'_>, Error> {
        if let Some(name) = key.model.as_deref() {
            if let Some(route) = self.lookup(name, key) {
                return Ok(route);
            }
            if with_task_id
                && let Some(route) = task_id_of(name).and_then(|id| self.lookup(&id, key))
            {
                return Ok(route);
            }
        }
        if let Some(cluster) = &self.default {
            return Ok(Route {
                cluster: cluster.clone(),
                model: None,
            });
        }
        Err(key.model.as_deref().map_or_else(
            || {
                Error::new(
                    ErrorKind::BadRouteKey,
                    "the call names no model: send its name in the metadata x-model",
                )
            },
            |name| self.no_route(name, key),
        ))
    }

    /// Whether a model has routes for single versions or labels.
    pub fn has_versions(&self, model: &str) -> bool {
        self.models
            .get(model)
            .is_some_and(|model| !model.versions.is_empty())
    }

    fn lookup(&self, name: &str, key: &RouteKey) -> Option<Route<'_>> {
        let model = self.models.get(name)?;
        let exact = version_or_label(key).and_then(|version| model.versions.get(version));
        let split = exact.or(model.split.as_ref())?;
        Some(Route {
            cluster: split.pick().clone(),
            model: Some(model),
        })
    }

    #[cold]
    fn no_route(&self, name: &str, key: &RouteKey) -> Error {
        let message = match self.models.get(name) {
            Some(model) => {
                let known: Vec<_> = model.versions.keys().map(AsRef::as_ref).collect();
                let asked = version_or_label(key).unwrap_or("(none)");
                format!(
                    "model {name} has no route for version {asked}; routed versions: {}",
                    known.join(", ")
                )
            }
            None => {
                let near = nearest(name, self.models.keys().map(AsRef::as_ref));
                if near.is_empty() {
                    format!("no route for model {name}: no model is configured")
                } else {
                    format!(
                        "no route for model {name}; nearest known: {}",
                        near.join(", ")
                    )
                }
            }
        };
        Error::new(ErrorKind::NoRoute, message)
    }
}

fn version_or_label(key: &RouteKey) -> Option<&str> {
    key.version.as_deref().or(key.label.as_deref())
}

/// Up to three known names, nearest first by edit distance.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    /// Comparing with more than this many names would let wrong names cost real work.
    const MAX_COMPARED: usize = 1000;
    let mut ranked: Vec<_> = known
        .take(MAX_COMPARED)
        .map(|other| (distance(name, other), other))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(3).map(|(_, other)| other).collect()
}

/// Levenshtein distance over bytes of the first 64.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (
        &left.as_bytes()[..left.len().min(64)],
        &right.as_bytes()[..right.len().min(64)],
    );
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
