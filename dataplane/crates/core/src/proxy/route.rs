//! Route key -> weighted clusters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashMap;

use super::cluster::Cluster;
use super::route_key::{RouteKey, task_id_of};
use crate::error::{Error, ErrorKind};
use crate::stats::CallStats;

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
    pub split: Option<Arc<Split>>,
    pub versions: BTreeMap<Box<str>, Arc<Split>>,
    /// Label -> the version that it stands for; the endpoints do not know the label.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// A version or label without a route goes where calls without one go.
    pub pass_through: bool,
}

/// What it does for the model that a call names if the call asks for a version or label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionUse {
    /// It may decide about the route.
    pub matters: bool,
    /// What is asked for is a label that stands for a version.
    pub is_alias: bool,
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
    /// What the call must ask for upstream: a label that it asks for stands for this version.
    pub version: Option<&'a str>,
    /// The shares among which it was chosen, where there are several.
    pub split: Option<&'a Arc<Split>>,
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

    /// The next call's cluster. Where nobody could answer there, the heaviest that has somebody takes the call.
    fn pick(&self) -> &Arc<Cluster> {
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

// === impl Routes ===

impl Routes {
    /// Find the route of a call: (model, version or label) exactly; else the model; else, where the method
    /// allows it, the same for the number at the name's end; else the default cluster.
    ///
    /// # Errors
    /// `no_route`, with the known keys nearest to the one asked for, or the versions and labels of a model that lets
    /// no others pass through; `bad_route_key` when the call names no model
    /// and there is no default cluster.
    pub fn find(&self, key: &RouteKey, with_task_id: bool) -> Result<Route<'_>, Error> {
        for model in self.models_of(key.model.as_deref(), with_task_id) {
            if let Some(route) = model.route(key)? {
                return Ok(route);
            }
        }
        if let Some(cluster) = &self.default {
            return Ok(Route {
                cluster: cluster.clone(),
                model: None,
                version: None,
                split: None,
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

    /// What a version or label does for a model.
    pub fn version_use(
        &self,
        model: Option<&str>,
        asked: Option<&str>,
        with_task_id: bool,
    ) -> VersionUse {
        let mut models = self.models_of(model, with_task_id);
        models
            .next()
            .map_or_else(VersionUse::default, |model| VersionUse {
                matters: !(model.versions.is_empty()
                    && model.labels.is_empty()
                    && model.pass_through),
                is_alias: asked.is_some_and(|asked| model.labels.contains_key(asked)),
            })
    }

    /// The models that a name can mean, the likelier first.
    fn models_of<'a, 'b>(
        &'a self,
        name: Option<&'b str>,
        with_task_id: bool,
    ) -> impl Iterator<Item = &'a Model> + use<'a, 'b> {
        let by_task_id = move || {
            let id = name.filter(|_| with_task_id).and_then(task_id_of)?;
            self.models.get(&*id)
        };
        let by_name = name.and_then(|name| self.models.get(name));
        by_name
            .into_iter()
            .chain(std::iter::once_with(by_task_id).flatten())
    }

    #[cold]
    fn no_route(&self, name: &str, key: &RouteKey) -> Error {
        if let Some(model) = self.models.get(name) {
            return model.no_version(key.version_or_label());
        }
        let near = nearest(name, self.models.keys().map(AsRef::as_ref));
        let message = if near.is_empty() {
            format!("no route for model {name}: no model is configured")
        } else {
            format!(
                "no route for model {name}; nearest known: {}",
                near.join(", ")
            )
        };
        Error::new(ErrorKind::NoRoute, message)
    }
}

// === impl Model ===

impl Model {
    /// Where a call for this model goes; `None` where nothing but versions has a route, and it asks for another.
    ///
    /// # Errors
    /// `no_route` for a version or label without a route, where none passes through.
    fn route(&self, key: &RouteKey) -> Result<Option<Route<'_>>, Error> {
        let asked = key.version_or_label();
        let version = asked.and_then(|asked| self.labels.get(asked));
        match self.split_of(asked) {
            Some(split) => Ok(Some(Route {
                cluster: split.pick().clone(),
                model: Some(self),
                version: version.map(AsRef::as_ref),
                split: Some(split).filter(|split| split.targets.len() > 1),
            })),
            None if asked.is_some() && !self.pass_through => Err(self.no_version(asked)),
            None => Ok(None),
        }
    }

    /// What splits the calls that ask for a version or label, or for none.
    fn split_of(&self, asked: Option<&str>) -> Option<&Arc<Split>> {
        let exact = asked.and_then(|asked| {
            let version = self.labels.get(asked).map_or(asked, AsRef::as_ref);
            self.versions.get(version)
        });
        let may_pass = asked.is_none() || self.pass_through;
        exact.or_else(|| self.split.as_ref().filter(|_| may_pass))
    }

    #[cold]
    fn no_version(&self, asked: Option<&str>) -> Error {
        let versions: Vec<_> = self.versions.keys().map(AsRef::as_ref).collect();
        let mut message = format!(
            "model {} has no route for version {}; routed versions: {}",
            self.name,
            asked.unwrap_or("(none)"),
            if versions.is_empty() {
                "(none)".to_owned()
            } else {
                versions.join(", ")
            },
        );
        if !self.labels.is_empty() {
            let labels = self.labels.iter();
            let labels: Vec<_> = labels
                .map(|(label, version)| format!("{label} (version {version})"))
                .collect();
            message += &format!("; labels: {}", labels.join(", "));
        }
        Error::new(ErrorKind::NoRoute, message)
    }
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
