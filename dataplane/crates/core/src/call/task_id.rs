//! The dl_inference service's names for models: `textcnn-69` means the model of task 69.

/// Return the task id in a model name, as the dl_inference service's clients expect: the last part between
/// `-` that is not empty, read as Java's `Integer.parseInt` does (ASCII digits), without leading zeros.
///
/// `None` when it is no positive 32-bit number. `textcnn-69`, `x-+69`, `x-069` and `textcnn-69-` are all `69`.
pub fn task_id_of(name: &str) -> Option<String> {
    let last = name.trim_end_matches('-').rsplit('-').next()?;
    match last.parse::<i32>() {
        Ok(id @ 1..) => Some(id.to_string()),
        _ => None,
    }
}
