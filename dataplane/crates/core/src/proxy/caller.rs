//! Who makes a call, and whether it may: found out once for each request, before anything else of it is read.

use http::HeaderMap;

use super::method::{Kind, Method};
use super::route::Route;
use super::route_key::RouteKey;
use super::worker::{SeenCallers, Worker};
use crate::callers::allow::{Action, Actions};
use crate::callers::{self, Caller};
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::net::accept::Peer;

/// Methods that everybody may call: load balancers and supervisors have no key.
const OPEN: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];
/// One that names every model.
const LIST: &str = "/grpc.health.v1.Health/List";

/// Whose a call is.
#[derive(Clone)]
pub enum Who {
    /// There is no document of callers: everybody may do everything.
    Anybody,
    Known(Identity),
    /// No caller of the document.
    Stranger,
}

/// A caller of the document that held when the request came.
#[derive(Clone)]
pub struct Identity {
    callers: SeenCallers,
    index: usize,
    /// The request is a prediction over HTTP: what it takes to make one, the model's signature above all, may be asked.
    is_prediction: bool,
}

/// Find out whose a request is, and take its credentials out of its headers.
pub fn who(worker: &Worker, headers: &mut HeaderMap, peer: &Peer) -> Who {
    let Some(callers) = worker.callers() else {
        return Who::Anybody;
    };
    let found = callers.find(headers, certificate(peer));
    callers::forget(headers);
    match found {
        Ok(index) => Who::Known(Identity {
            callers,
            index,
            is_prediction: false,
        }),
        Err(reason) => {
            worker.shared.refusals.met(reason, peer);
            Who::Stranger
        }
    }
}

/// The names of the certificate that a connection's caller has shown.
fn certificate(peer: &Peer) -> &[String] {
    peer.identity().map_or(&[], |identity| &identity.names)
}

/// Whether everybody may call a method.
pub fn is_open(method: &Method) -> bool {
    method.kind == Kind::Local && OPEN.contains(&&*method.path)
}

// === impl Who ===

impl Who {
    /// Whether the caller may call the method at all; which model it is about is not known yet.
    ///
    /// # Errors
    /// `unauthenticated`, `denied`.
    pub fn check(&self, method: &Method) -> Result<(), Error> {
        match self {
            Self::Anybody => Ok(()),
            Self::Known(identity) if method.path == LIST => identity.check_all(Action::Metadata),
            Self::Known(_) => Ok(()),
            Self::Stranger if is_open(method) => Ok(()),
            Self::Stranger => self.check_known(),
        }
    }

    /// Whether it is anybody that is known.
    ///
    /// # Errors
    /// `unauthenticated`, with one text whatever was wrong.
    pub fn check_known(&self) -> Result<(), Error> {
        match self {
            Self::Anybody | Self::Known(_) => Ok(()),
            Self::Stranger => {
                let text =
                    "no valid credential: send a key as x-api-key or as authorization: Bearer KEY";
                Err(Error::new(ErrorKind::Unauthenticated, text))
            }
        }
    }

    /// Whether the caller may see every model.
    ///
    /// # Errors
    /// `unauthenticated`, `denied`.
    pub fn check_all(&self) -> Result<(), Error> {
        match self {
            Self::Known(identity) => identity.check_all(Action::Metadata),
            Self::Anybody | Self::Stranger => self.check_known(),
        }
    }

    /// The same number for all that may do the same.
    pub fn scope(&self) -> u64 {
        self.known()
            .map_or(0, |identity| identity.caller().allow.number)
    }

    pub fn known(&self) -> Option<&Identity> {
        match self {
            Self::Known(identity) => Some(identity),
            Self::Anybody | Self::Stranger => None,
        }
    }

    /// The caller's name; empty where there is none.
    pub fn name(&self) -> &str {
        self.known().map_or("", |identity| &identity.caller().name)
    }

    /// Count a call that is over.
    pub fn count(&self, code: Code) {
        if let Some(identity) = self.known() {
            identity.caller().counts.codes.add(code);
        }
    }

    /// The same for what a prediction over HTTP takes.
    pub fn predicting(mut self) -> Self {
        if let Self::Known(identity) = &mut self {
            identity.is_prediction = true;
        }
        self
    }
}

/// What a method of this kind does; a local one tells what there is.
fn action(kind: Kind) -> Action {
    match kind {
        Kind::Predict => Action::Predict,
        Kind::Metadata | Kind::Local => Action::Metadata,
        Kind::Admin => Action::Admin,
    }
}

// === impl Identity ===

impl Identity {
    pub fn caller(&self) -> &Caller {
        self.callers.get(self.index)
    }

    /// Whether the caller may do with a model what a method does. `names` are the model's own and what that is another
    /// name of, `versions` what the call asks for and what that stands for.
    ///
    /// # Errors
    /// `denied`.
    pub fn check(
        &self,
        kind: Kind,
        names: [Option<&str>; 2],
        versions: [Option<&str>; 2],
    ) -> Result<(), Error> {
        let allow = &self.caller().allow;
        if allow.rule(names, versions, self.actions(kind)).is_some() {
            return Ok(());
        }
        let name = names[0].unwrap_or_default();
        let version = match versions[0] {
            Some(version) => format!(", version {version}"),
            None => String::new(),
        };
        let action = match kind {
            Kind::Metadata if self.is_prediction => Action::Predict,
            _ => action(kind),
        };
        Err(self.denied(action, &format!("model {name:?}{version}")))
    }

    /// Let a call go where its key leads, if the caller may have it there; who may not is told nothing of what there is.
    ///
    /// # Errors
    /// `denied`; `found`'s own.
    pub fn route<'r>(
        &self,
        kind: Kind,
        key: &RouteKey,
        found: Result<Route<'r>, Error>,
    ) -> Result<Route<'r>, Error> {
        let asked = key.model.as_deref().unwrap_or_default();
        let route = found.as_ref().ok();
        let model = route.and_then(|route| route.model);
        // An endpoint of the default cluster finds the model by the name in the call; else the route has decided.
        let names = match model {
            Some(model) => [Some(&*model.name), model.alias_of.as_deref()],
            None => [Some(asked), None],
        };
        let stands_for = route.and_then(|route| route.version);
        self.check(kind, names, [key.version_or_label(), stands_for])?;
        found.map_err(|error| match error.kind {
            ErrorKind::NoRoute if !self.sees_all(Action::Metadata) => {
                Error::new(error.kind, format!("no route for model {asked}"))
            }
            _ => error,
        })
    }

    /// Whether the caller may do something with every model.
    ///
    /// # Errors
    /// `denied`.
    pub fn check_all(&self, action: Action) -> Result<(), Error> {
        match self.sees_all(action) {
            true => Ok(()),
            false => Err(self.denied(action, "every model, \"*\", as this takes")),
        }
    }

    pub fn sees_all(&self, action: Action) -> bool {
        self.caller().allow.rule_for_all(action.into()).is_some()
    }

    /// Whether it takes the version to tell if a call for a model is allowed.
    pub fn needs_version(&self, kind: Kind, name: &str) -> bool {
        self.caller().allow.needs_version(name, self.actions(kind))
    }

    fn actions(&self, kind: Kind) -> Actions {
        let actions = Actions::from(action(kind));
        match kind {
            Kind::Metadata if self.is_prediction => actions.or(Action::Predict),
            _ => actions,
        }
    }

    fn denied(&self, action: Action, what: &str) -> Error {
        let (name, action) = (&self.caller().name, action.name());
        let text = format!(
            "caller {name} may not use {what} ({action}): ask for a rule in its `allow` of callers.yaml"
        );
        Error::new(ErrorKind::Denied, text)
    }
}
