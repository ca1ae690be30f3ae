//! The share that each call of a route goes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cluster::Cluster;

/// Clusters among which the calls of one route are split.
pub struct Split {
    targets: Vec<(Arc<Cluster>, u64)>,
    total: u64,
    calls: AtomicU64,
}

// === impl Split ===

impl Split {
    /// `targets` with weights; those of weight 0 get nothing. None when nothing is left.
    pub fn new(targets: Vec<(Arc<Cluster>, u32)>) -> Option<Arc<Self>> {
        let targets: Vec<_> = targets
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(cluster, weight)| (cluster, weight.into()))
            .collect();
        let total = targets.iter().map(|(_, weight)| weight).sum();
        (total > 0).then(|| {
            Arc::new(Self {
                targets,
                total,
                calls: AtomicU64::new(0),
            })
        })
    }

    pub fn targets(&self) -> impl Iterator<Item = (&Arc<Cluster>, u64)> {
        self.targets
            .iter()
            .map(|(cluster, weight)| (cluster, *weight))
    }

    /// Whether an endpoint of any share is live.
    pub fn is_live(&self) -> bool {
        self.targets.iter().any(|(cluster, _)| cluster.is_live())
    }

    /// Whether there is more than one.
    pub fn has_shares(&self) -> bool {
        self.targets.len() > 1
    }

    /// The next call's cluster. Where nobody could answer there, the heaviest that has somebody takes the call.
    pub fn pick(&self) -> &Arc<Cluster> {
        if let [(only, _)] = &self.targets[..] {
            return only;
        }
        let due = self.due();
        if due.may_serve() {
            return due;
        }
        self.heaviest(|cluster| cluster.may_serve()).unwrap_or(due)
    }

    /// The heaviest share beside one, of those that have a live endpoint.
    pub fn another(&self, beside: &Arc<Cluster>) -> Option<&Arc<Cluster>> {
        self.heaviest(|cluster| !Arc::ptr_eq(cluster, beside) && cluster.is_live())
    }

    /// The cluster with the greatest weight of those that fit.
    fn heaviest(&self, fits: impl Fn(&Arc<Cluster>) -> bool) -> Option<&Arc<Cluster>> {
        let fitting = self.targets.iter().filter(|(cluster, _)| fits(cluster));
        fitting
            .max_by_key(|(_, weight)| *weight)
            .map(|(cluster, _)| cluster)
    }

    /// The cluster that is due. A Weyl sequence (multiples of the golden ratio) keeps every prefix of the calls close to
    /// the weights, without a lock and without a random source.
    fn due(&self) -> &Arc<Cluster> {
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
        &self.targets[0].0
    }
}
