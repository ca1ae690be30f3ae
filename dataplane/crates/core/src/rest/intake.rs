//! What a worker has for the requests over HTTP that it answers.

use std::sync::Arc;

use super::openapi::Described;
use super::tensors::known::Known;
use super::uris::Uris;
use super::web::body::Bodies;
use crate::call::limit::HeldBytes;
use crate::config::{Limits, Origins};

/// One for each worker, made once and shared by its requests.
pub struct Intake {
    pub(super) bodies: Bodies,
    /// Data that a body names by URI.
    pub(super) uris: Arc<Uris>,
    pub(super) known: std::rc::Rc<Known>,
    /// Of web pages that may call.
    pub(super) origins: Origins,
    pub(super) described: Described,
}

// === impl Intake ===

impl Intake {
    pub fn new(held: Arc<HeldBytes>, limits: &Limits, uris: Arc<Uris>) -> Self {
        Self {
            bodies: Bodies::new(held, limits),
            uris,
            known: std::rc::Rc::default(),
            origins: limits.cors_origins.clone(),
            described: Described::default(),
        }
    }

    /// The routing state is another one: what was learnt of models under the last one is forgotten.
    pub fn state_changed(&self) {
        self.known.state_changed();
    }
}
