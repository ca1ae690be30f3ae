//! What a program of ours answers itself: health, reflection, what the Open Inference Protocol asks of a server, and the
//! states of a model's versions.

pub mod call;
pub mod health;
pub mod messages;
pub mod model_status;
pub mod oip;
pub mod reflection;
pub mod services;
