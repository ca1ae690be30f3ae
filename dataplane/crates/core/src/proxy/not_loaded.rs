//! What a caller is told whose model is not loaded.

use crate::config::{RefusalConfig, UnloadedConfig};
use crate::error::{Error, ErrorKind};

/// The call does not load it.
pub fn not_loaded(unloaded: &UnloadedConfig) -> Error {
    let model = &unloaded.model;
    let because = unloaded
        .refusal
        .as_ref()
        .map_or(String::new(), |refusal| format!(" ({})", refusal.text));
    let remedy = if unloaded.on_demand {
        "a call that needs it loads it"
    } else {
        "load it by `dl-inference models load`, or RepositoryModelLoad"
    };
    let text = format!("model {model} is not loaded{because}: {remedy}");
    Error::new(ErrorKind::ModelUnloaded, text)
}

/// Why a model was not loaded for a call.
pub fn refused(model: &str, refusal: &RefusalConfig) -> Error {
    if refusal.is_memory {
        return Error::new(ErrorKind::MemoryBudget, refusal.text.clone());
    }
    let text = format!("model {model} cannot be loaded: {}", refusal.text);
    Error::new(ErrorKind::NoEndpoints, text)
}

/// What it means that no more calls may wait for a model.
pub fn crowded(most: usize) -> Error {
    let text = format!("{most} calls wait for the model to be loaded already: try again later");
    Error::new(ErrorKind::Shed, text)
}
