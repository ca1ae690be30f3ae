//! Who makes a call, and whether it may: found out once for each request, before anything else of it is read.

use std::sync::Arc;
use std::time::Duration;

use super::method::{self, Kind, Method, Streaming};
use super::route::Route;
use super::route_key::RouteKey;
use super::worker::{SeenCallers, Worker};
use crate::callers::allow::{Action, Actions};
use crate::callers::limits::Limit;
use crate::callers::replays;
use crate::callers::signing::{Asked, SignedBody, Wrong};
use crate::callers::{self, Caller, Found, Memory, Reason, Request};
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{X_MODEL, X_MODEL_VERSION};
use crate::net::accept::Peer;
use crate::net::stream::Head;

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
    /// Somebody whose signed request cannot be remembered, and so might come again.
    Crowded,
}

/// A caller of the document that held when the request came.
#[derive(Clone)]
pub struct Identity {
    callers: SeenCallers,
    index: usize,
    /// The request is a prediction over HTTP: what it takes to make one, the model's signature above all, may be asked.
    is_prediction: bool,
    /// What the request's body must be, where it is signed and has not been read yet.
    body: Option<Box<SignedBody>>,
}

/// Find out whose a request is, and take its credentials out of its headers. `is_grpc`: it is a call as it stands.
pub fn who(worker: &Worker, head: &mut Head, is_grpc: bool, peer: &Peer) -> Who {
    let Some(callers) = worker.callers() else {
        return Who::Anybody;
    };
    let name = |name| head.headers.get(name).unwrap_or_default();
    let request = Request {
        headers: &head.headers,
        certificate: certificate(peer),
        asked: Asked {
            verb: head.verb.as_str(),
            path: &head.path,
            model: name(X_MODEL),
            version: name(X_MODEL_VERSION),
        },
    };
    let memory = Memory {
        replays: &worker.shared.replays,
        tokens: &mut worker.tokens.borrow_mut(),
    };
    let found = callers.find(&request, memory).and_then(|found| {
        // Over HTTP the whole body is read before anything is made of it.
        let can_be_signed = !is_grpc || method::find(&head.path).is_some_and(is_signable);
        match found.body {
            Some(_) if !can_be_signed => Err(Reason::Unsignable),
            _ => Ok(found),
        }
    });
    callers::forget(&mut head.headers);
    match found {
        Ok(Found { index, body }) => Who::Known(Identity {
            callers,
            index,
            is_prediction: false,
            body: body.map(Box::new),
        }),
        Err(Reason::Signature(Wrong::Full)) => Who::Crowded,
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

/// Whether the whole of what is asked can be compared with what was signed, before it reaches anybody.
fn is_signable(method: &Method) -> bool {
    let goes_on = matches!(method.kind, Kind::Predict | Kind::Metadata);
    goes_on && method.streaming != Streaming::Bidi
}

/// Whether everybody may call a method.
pub fn is_open(method: &Method) -> bool {
    method.kind == Kind::Local && OPEN.contains(&&*method.path)
}

// === impl Who ===

impl Who {
    /// The caller, as the access log has it.
    pub fn logged(&self) -> Option<String> {
        self.known().map(|it| it.caller().name.to_string())
    }

    /// Whether the caller may call the method at all; which model it is about is not known yet.
    ///
    /// # Errors
    /// `unauthenticated`, `denied`.
    pub fn check(&self, method: &Method) -> Result<(), Error> {
        match self {
            Self::Anybody => Ok(()),
            Self::Known(identity) if method.path == LIST => identity.check_all(Action::Metadata),
            Self::Known(_) => Ok(()),
            Self::Stranger | Self::Crowded if is_open(method) => Ok(()),
            Self::Stranger | Self::Crowded => self.check_known(),
        }
    }

    /// Whether it is anybody that is known.
    ///
    /// # Errors
    /// `unauthenticated`, with one text whatever was wrong.
    pub fn check_known(&self) -> Result<(), Error> {
        match self {
            Self::Anybody | Self::Known(_) => Ok(()),
            Self::Stranger => Err(callers::unauthenticated()),
            Self::Crowded => Err(crowded()),
        }
    }

    /// Whether the caller may see every model.
    ///
    /// # Errors
    /// `unauthenticated`, `denied`.
    pub fn check_all(&self) -> Result<(), Error> {
        match self {
            Self::Known(identity) => identity.check_all(Action::Metadata),
            Self::Anybody | Self::Stranger | Self::Crowded => self.check_known(),
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
            Self::Anybody | Self::Stranger | Self::Crowded => None,
        }
    }

    /// What the request's body must be, where that was signed; asked once.
    pub fn take_body(&mut self) -> Option<SignedBody> {
        match self {
            Self::Known(identity) => identity.body.take().map(|body| *body),
            Self::Anybody | Self::Stranger | Self::Crowded => None,
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

/// The answer where no more signed requests can be told from those that have come.
fn crowded() -> Error {
    let text = format!(
        "{} signed requests are remembered for 300 s, so that none comes twice, and no more can be; try again later, or \
         show a key",
        replays::MOST
    );
    let mut error = Error::new(ErrorKind::Limited, text);
    error.retry_after = Some(Duration::from_secs(30));
    error
}

// === impl Identity ===

impl Identity {
    pub fn caller(&self) -> &Caller {
        self.callers.get(self.index)
    }

    /// The limits that a call is under: the caller's own, unless it is only a step to a prediction over HTTP.
    pub fn limit(&self, kind: Kind) -> Option<&Arc<Limit>> {
        let is_step = self.is_prediction && kind == Kind::Metadata;
        self.caller().limit.as_ref().filter(|_| !is_step)
    }

    /// And those at the model, by its own name.
    pub fn limit_at(&self, model: &str) -> Option<&Arc<Limit>> {
        self.caller().at_models.get(model)
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
