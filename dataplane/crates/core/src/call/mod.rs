//! The answering end of a gRPC call, for proxy, model server and local services alike.

pub mod head;
mod in_flight;
pub mod inflate;
pub mod limit;
pub mod messages;
pub mod responder;
pub mod task_id;

#[cfg(test)]
mod in_flight_tests;
