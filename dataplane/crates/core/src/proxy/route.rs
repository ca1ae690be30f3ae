//! Route key -> weighted clusters.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::cluster::Cluster;
use super::nearest::nearest;
use super::route_key::RouteKey;
use super::split::Split;
use crate::call::task_id::task_id_of;
use crate::callers::limits::Limit;
use crate::error::{Error, ErrorKind};
use crate::stats::CallStats;

/// One model: its default route and the routes of single versions or labels.
pub struct Model {
    pub name: Box<str>,
    /// The model that this is another name of.
    pub alias_of: Option<Box<str>>,
    pub stats: Arc<CallStats>,
    pub split: Option<Arc<Split>>,
    pub versions: BTreeMap<Box<str>, Arc<Split>>,
    /// Label -> the version that it stands for; the endpoints do not know the label.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// A version or label without a route goes where calls without one go.
    pub pass_through: bool,
    pub limit: Option<Arc<Limit>>,
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
            return model.no_version(key);
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
                split: Some(split).filter(|split| split.has_shares()),
            })),
            None if asked.is_some() && !self.pass_through => Err(self.no_version(key)),
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

    /// A label in a TF Serving message is answered as TF Serving does; elsewhere labels stand where versions do.
    #[cold]
    fn no_version(&self, key: &RouteKey) -> Error {
        let list = |names: Vec<String>| match &names[..] {
            [] => "(none)".to_owned(),
            _ => names.join(", "),
        };
        let versions = list(self.versions.keys().map(ToString::to_string).collect());
        let labels = self.labels.iter();
        let labels = labels.map(|(label, version)| format!("{label} (version {version})"));
        let labels: Vec<_> = labels.collect();
        if let (None, Some(label)) = (&key.version, &key.label) {
            let message = format!(
                "Unrecognized servable version label: {label}; labels of model {}: {}; its versions: {versions}",
                self.name,
                list(labels)
            );
            return Error::new(ErrorKind::UnknownLabel, message);
        }
        let mut message = format!(
            "model {} has no route for version {}; routed versions: {versions}",
            self.name,
            key.version_or_label().unwrap_or("(none)"),
        );
        if !labels.is_empty() {
            message += &format!("; labels: {}", labels.join(", "));
        }
        Error::new(ErrorKind::NoRoute, message)
    }
}
