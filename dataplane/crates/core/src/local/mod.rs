//! What a program of ours answers itself: health, reflection, and what the Open Inference Protocol asks of a server.

pub mod call;
pub mod health;
pub mod messages;
pub mod oip;
pub mod reflection;
pub mod services;
