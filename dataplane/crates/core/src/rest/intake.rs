//! What a worker has for the requests over HTTP that it answers.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::openapi::Described;
use super::tensors::known::Known;
use super::uris::Uris;
use super::web::body::Bodies;
use crate::call::head::Most;
use crate::call::limit::HeldBytes;
use crate::callers::signing::SignedBody;
use crate::config::{Limits, Origins};
use crate::error::Error;

/// What who calls means for a request.
#[derive(Default)]
pub struct Guest {
    /// Why it is answered with this and nothing else.
    pub refused: Option<Error>,
    /// The same for callers that may call the same models: what one has learnt of them is told to no other.
    pub scope: u64,
    /// What the body must be, where the request is signed.
    pub signed: Option<SignedBody>,
}

/// Scopes of which is kept what was learnt.
const MAX_SCOPES: usize = 64;

/// One for each worker, made once and shared by its requests.
pub struct Intake {
    pub(super) bodies: Bodies,
    /// Data that a body names by URI.
    pub(super) uris: Arc<Uris>,
    known: RefCell<FxHashMap<u64, Rc<Known>>>,
    /// Of web pages that may call.
    pub(super) origins: Origins,
    pub(super) described: Described,
    pub(super) most_metadata: Most,
}

// === impl Intake ===

impl Intake {
    pub fn new(held: Arc<HeldBytes>, limits: &Limits, uris: Arc<Uris>) -> Self {
        Self {
            bodies: Bodies::new(held, limits),
            uris,
            known: RefCell::default(),
            origins: limits.cors_origins.clone(),
            described: Described::default(),
            most_metadata: Most::of(limits),
        }
    }

    /// The routing state is another one: what was learnt of models under the last one is forgotten.
    pub fn state_changed(&self) {
        for known in self.known.borrow().values() {
            known.state_changed();
        }
    }

    /// What the callers of a scope have learnt of models.
    pub(super) fn known(&self, scope: u64) -> Rc<Known> {
        let mut all = self.known.borrow_mut();
        if all.len() >= MAX_SCOPES && !all.contains_key(&scope) {
            all.clear();
        }
        all.entry(scope).or_default().clone()
    }
}
