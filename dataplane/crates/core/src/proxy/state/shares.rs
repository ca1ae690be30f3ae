//! Limits that several access services share: what is wanted of each here, and which part is allowed here.

use std::sync::PoisonError;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::Shared;
use crate::callers::limits::{Limit, Of};

/// A part of a limit, at most 1; of a caller's, a model's, or a caller's at a model. An empty name is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub caller: String,
    pub model: String,
    /// `requests_per_s`, `in_flight` or `bytes_per_s`.
    pub limit: String,
    pub part: f64,
}

impl Shared {
    /// The limits of which at least this part was wanted since the last question, so long ago.
    pub fn wanted(&self, over_s: f64, least: f64) -> Vec<Part> {
        let mut found = Vec::new();
        self.each_limit(|limit, (caller, model)| {
            for of in Of::ALL {
                let part = limit.wanted(of, over_s);
                if part > 0.0 && part >= least {
                    found.push(Part {
                        caller: caller.to_owned(),
                        model: model.to_owned(),
                        limit: of.name().to_owned(),
                        part,
                    });
                }
            }
        });
        found
    }

    /// Allow these parts of limits from now on, and `rest` of every other one; none: as configured.
    pub fn share(&self, rest: Option<f64>, parts: &[Part]) {
        // A reload takes shares over from one limit to the next.
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let parts = parts.iter();
        let parts: FxHashMap<_, _> = parts
            .map(|it| ((&*it.caller, &*it.model, &*it.limit), it.part))
            .collect();
        self.each_limit(|limit, (caller, model)| {
            for of in Of::ALL.into_iter().filter(|of| limit.has(*of)) {
                let part = parts.get(&(caller, model, of.name())).copied();
                limit.share(of, part.or(rest), now);
            }
        });
    }

    /// Visit every limit with the names of its caller and model.
    fn each_limit(&self, mut visit: impl FnMut(&Limit, (&str, &str))) {
        let (state, callers) = (self.state.load(), self.callers.load());
        let models = state.routes.models.values();
        let models = models.filter(|it| it.alias_of.is_none());
        let callers = callers.iter().flat_map(|it| it.all());
        let of_callers = callers.flat_map(|it| it.limit.iter().chain(it.at_models.values()));
        for limit in models.filter_map(|it| it.limit.as_ref()).chain(of_callers) {
            let whose = &limit.whose;
            let names = [&whose.caller, &whose.model].map(|it| it.as_deref().unwrap_or_default());
            visit(limit, (names[0], names[1]));
        }
    }
}
