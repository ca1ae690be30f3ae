//! Smooth weighted round robin as nginx and dl_inference have it, with credit in units of weight: the reference that
//! `policy: dl` keeps (dl_inference 7f8ba388, TensorflowServingBlockingStub.java, with the weights that it never set).

#[derive(Debug)]
pub struct Swrr {
    /// 0: left out.
    weights: Vec<u32>,
    credits: Vec<i64>,
}

impl Swrr {
    pub fn new(slots: usize) -> Self {
        Self {
            weights: vec![0; slots],
            credits: vec![0; slots],
        }
    }

    pub fn set_weight(&mut self, slot: usize, weight: u32) {
        self.weights[slot] = weight;
    }

    /// The same for other slots, whose slots in this one are `places`: they keep their credit.
    pub fn renewed(&self, places: &[Option<usize>]) -> Self {
        let mut next = Self::new(places.len());
        for (credit, place) in next.credits.iter_mut().zip(places) {
            *credit = place.map_or(0, |old| self.credits[old]);
        }
        next
    }

    /// The next slot, charged.
    pub fn pick(&mut self, tried: &[usize]) -> Option<usize> {
        let (mut best, mut total) = (None, 0);
        for slot in 0..self.weights.len() {
            if self.weights[slot] == 0 || tried.contains(&slot) {
                continue;
            }
            let weight = i64::from(self.weights[slot]);
            self.credits[slot] += weight;
            total += weight;
            if best.is_none_or(|best: usize| self.credits[best] < self.credits[slot]) {
                best = Some(slot);
            }
        }
        self.credits[best?] -= total;
        best
    }
}
