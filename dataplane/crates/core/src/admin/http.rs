use std::sync::Arc;
pub trait AdminPages: Send + Sync { fn metrics(&self) -> String; fn status_json(&self) -> String; fn ready(&self) -> Result<(), String>; }
pub struct AdminServer {}
impl AdminServer { pub fn start(_a: &str, _p: Arc<dyn AdminPages>) -> std::io::Result<(String, Self)> { Err(std::io::Error::other("no admin")) } pub fn stop(self) {} }
