//! What is wrong with a routing state that the types cannot express.

use rustc_hash::FxHashSet;

use crate::config::StateConfig;

/// Check names and references.
///
/// # Errors
/// Names the first one that is wrong.
pub fn check(config: &StateConfig) -> Result<(), String> {
    let mut clusters = FxHashSet::default();
    for cluster in &config.clusters {
        if !clusters.insert(cluster.name.as_str()) {
            return Err(format!("cluster {} appears twice", cluster.name));
        }
        let mut addresses = FxHashSet::default();
        if let Some(endpoint) = cluster
            .endpoints
            .iter()
            .find(|endpoint| !addresses.insert(endpoint.address.as_str()))
        {
            return Err(format!(
                "cluster {}: endpoint {} appears twice",
                cluster.name, endpoint.address
            ));
        }
    }
    if let Some(name) = config
        .default_cluster
        .as_deref()
        .filter(|name| !clusters.contains(name))
    {
        return Err(format!("default_cluster {name} is not a cluster"));
    }
    let mut models = FxHashSet::default();
    for model in &config.models {
        if !models.insert(model.name.as_str()) {
            return Err(format!("model {} appears twice", model.name));
        }
        let mut targets = model.split.iter().chain(model.versions.values().flatten());
        if let Some(target) = targets.find(|target| !clusters.contains(target.cluster.as_str())) {
            return Err(format!(
                "model {}: {} is not a cluster",
                model.name, target.cluster
            ));
        }
        let mut labels = model.labels.keys();
        if let Some(label) =
            labels.find(|label| label.parse::<i64>().is_ok() || model.versions.contains_key(*label))
        {
            return Err(format!(
                "model {}: label {label} is a version, too",
                model.name
            ));
        }
    }
    Ok(())
}
