use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
#[derive(Default, Clone)]
pub struct InFlight(Arc<AtomicUsize>);
pub struct Permit(Arc<AtomicUsize>);
impl InFlight {
    pub fn acquire(&self, limit: usize) -> Option<Permit> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= limit { self.0.fetch_sub(1, Ordering::Relaxed); return None; }
        Some(Permit(self.0.clone()))
    }
    pub fn count(&self) -> usize { self.0.load(Ordering::Relaxed) }
}
impl Drop for Permit { fn drop(&mut self) { self.0.fetch_sub(1, Ordering::Relaxed); } }
pub struct HeldBytes { used: AtomicUsize, limit: usize }
impl HeldBytes { pub fn new(limit: usize) -> Self { Self { used: AtomicUsize::new(0), limit } } pub fn used(&self) -> usize { self.used.load(Ordering::Relaxed) } }
pub struct Held { budget: Arc<HeldBytes>, bytes: usize }
impl Held {
    pub fn new(budget: Arc<HeldBytes>) -> Self { Self { budget, bytes: 0 } }
    pub fn grow(&mut self, n: usize) -> bool {
        if self.budget.used.fetch_add(n, Ordering::Relaxed) + n > self.budget.limit { self.budget.used.fetch_sub(n, Ordering::Relaxed); return false; }
        self.bytes += n; true
    }
    pub fn release(&mut self) { self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed); self.bytes = 0; }
}
impl Drop for Held { fn drop(&mut self) { self.release(); } }
