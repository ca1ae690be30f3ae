//! Seldon's predictions: its JSON (protobuf's of a SeldonMessage, or a form's field), and what it becomes where the model's
//! server speaks another protocol.

mod answer;
mod form;
mod over;
mod request;

pub use answer::reply;
pub use form::json_of;
pub use over::predict;
pub use request::request;
