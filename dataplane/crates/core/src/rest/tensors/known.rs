//! What a worker has learnt of models: which protocols their servers lack, and their signatures. It is kept for a short
//! time, for so many models, and dropped when the routing state changes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::rest::tensors::signature::{Protocol, Signature};

/// A model may be replaced behind the same address: after this time its signature is asked for again.
const KEPT: Duration = Duration::from_secs(10);
/// Servers seldom change their protocols, and each question to one that lacks it is a failed call in all counts.
const LACK_KEPT: Duration = Duration::from_secs(600);
/// Names come from callers: more than this are not kept.
const MAX_MODELS: usize = 1024;
/// Signatures of one model.
const MAX_SIGNATURES: usize = 16;

/// Shared by the requests of one worker.
#[derive(Default)]
pub struct Known {
    models: RefCell<FxHashMap<Vec<u8>, Learnt>>,
    changes: Cell<u64>,
}

/// A routing state: what was asked before another one came is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u64);

struct Learnt {
    since: Instant,
    lacking: Vec<Protocol>,
    signatures: Vec<Told>,
}

struct Told {
    at: Instant,
    name: String,
    signature: Rc<Signature>,
}

// === impl Known ===

impl Known {
    pub fn moment(&self) -> Moment {
        Moment(self.changes.get())
    }

    /// Forget everything: calls go elsewhere now.
    pub fn state_changed(&self) {
        self.changes.set(self.changes.get() + 1);
        self.models.borrow_mut().clear();
    }

    /// Forget a model.
    pub fn forget(&self, model: &[u8]) {
        self.models.borrow_mut().remove(model);
    }

    /// Whether the server of a model is known not to speak a protocol.
    pub fn lacks(&self, model: &[u8], protocol: Protocol) -> bool {
        self.find(model, |learnt| {
            learnt.lacking.contains(&protocol).then_some(())
        })
        .is_some()
    }

    pub fn note_lack(&self, model: &[u8], protocol: Protocol, asked: Moment) {
        self.note(model, asked, |learnt| {
            if !learnt.lacking.contains(&protocol) {
                learnt.lacking.push(protocol);
            }
        });
    }

    pub fn signature(&self, model: &[u8], name: &str) -> Option<Rc<Signature>> {
        self.find(model, |learnt| {
            let is_found = |told: &&Told| told.name == name && told.at.elapsed() < KEPT;
            let found = learnt.signatures.iter().find(is_found);
            found.map(|told| told.signature.clone())
        })
    }

    pub fn note_signature(
        &self,
        model: &[u8],
        name: &str,
        signature: &Rc<Signature>,
        asked: Moment,
    ) {
        self.note(model, asked, |learnt| {
            learnt.signatures.retain(|told| told.name != name);
            learnt.signatures.truncate(MAX_SIGNATURES - 1);
            let told = Told {
                at: Instant::now(),
                name: name.to_owned(),
                signature: signature.clone(),
            };
            learnt.signatures.insert(0, told);
        });
    }

    fn find<T>(&self, model: &[u8], look: impl FnOnce(&Learnt) -> Option<T>) -> Option<T> {
        let models = self.models.borrow();
        let learnt = models.get(model)?;
        (learnt.since.elapsed() < LACK_KEPT)
            .then(|| look(learnt))
            .flatten()
    }

    fn note(&self, model: &[u8], asked: Moment, change: impl FnOnce(&mut Learnt)) {
        if asked != self.moment() {
            return;
        }
        let mut models = self.models.borrow_mut();
        if models
            .get(model)
            .is_none_or(|it| it.since.elapsed() >= LACK_KEPT)
        {
            if models.len() >= MAX_MODELS {
                models.retain(|_, learnt| learnt.since.elapsed() < LACK_KEPT);
            }
            if models.len() >= MAX_MODELS {
                return;
            }
            models.insert(
                model.to_vec(),
                Learnt {
                    since: Instant::now(),
                    lacking: Vec::new(),
                    signatures: Vec::new(),
                },
            );
        }
        // It is there now.
        if let Some(learnt) = models.get_mut(model) {
            change(learnt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Rc<Signature> {
        Rc::new(Signature {
            inputs: Vec::new(),
            protocol: Protocol::Seldon,
            name: String::new(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_learnt_is_known_until_its_time_is_over_or_the_state_changes() {
        let known = Known::default();
        let note = |asked| {
            known.note_lack(b"m", Protocol::TensorFlow, asked);
            known.note_signature(b"m", "a", &signature(), asked);
        };
        let lacks = || known.lacks(b"m", Protocol::TensorFlow);
        let is_known = || {
            assert_eq!(lacks(), known.signature(b"m", "a").is_some());
            lacks()
        };
        note(known.moment());
        assert!(is_known());
        assert!(!known.lacks(b"m", Protocol::Seldon) && !known.lacks(b"n", Protocol::TensorFlow));
        assert!(known.signature(b"m", "b").is_none());
        tokio::time::advance(KEPT).await;
        assert!(lacks() && known.signature(b"m", "a").is_none());
        tokio::time::advance(LACK_KEPT - KEPT).await;
        assert!(!is_known());
        note(known.moment());
        assert!(is_known());
        known.forget(b"m");
        assert!(!is_known());
        let before = known.moment();
        known.state_changed();
        note(before);
        assert!(!is_known(), "asked of the state before");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_models_and_signatures_are_kept_and_no_more() {
        let known = Known::default();
        let name = |number: usize| number.to_le_bytes();
        for number in 0..2 * MAX_MODELS {
            known.note_lack(&name(number), Protocol::Seldon, known.moment());
        }
        assert_eq!(known.models.borrow().len(), MAX_MODELS);
        assert!(known.lacks(&name(0), Protocol::Seldon));
        tokio::time::advance(LACK_KEPT).await;
        for number in 0..2 * MAX_SIGNATURES {
            known.note_signature(b"m", &number.to_string(), &signature(), known.moment());
        }
        let models = known.models.borrow();
        assert_eq!(models.len(), 1);
        assert_eq!(models[&b"m"[..]].signatures.len(), MAX_SIGNATURES);
    }
}
