//! A binary heap of slots that knows where each slot is, so that one in the middle can move or leave.

const ABSENT: u32 = u32::MAX;

/// The least key is on top; equal keys go by slot.
#[derive(Debug, Default)]
pub struct Heap {
    /// (key, slot), as a binary heap.
    rows: Vec<(u128, u32)>,
    /// Slot -> its row.
    places: Vec<u32>,
}

impl Heap {
    /// Empty, with room for slots below `slots`.
    pub fn new(slots: usize) -> Self {
        Self {
            rows: Vec::with_capacity(slots),
            places: vec![ABSENT; slots],
        }
    }

    pub fn top(&self) -> Option<(u128, usize)> {
        self.rows.first().map(|&(key, slot)| (key, slot as usize))
    }

    /// Add a slot, or change its key.
    pub fn set(&mut self, slot: usize, key: u128) {
        let place = self.places[slot];
        if place == ABSENT {
            self.rows.push((key, slot as u32));
            self.rise(self.rows.len() - 1);
        } else {
            let place = place as usize;
            let before = std::mem::replace(&mut self.rows[place].0, key);
            if key < before {
                self.rise(place);
            } else {
                self.sink(place);
            }
        }
    }

    pub fn remove(&mut self, slot: usize) {
        let place = std::mem::replace(&mut self.places[slot], ABSENT);
        if place == ABSENT {
            return;
        }
        let place = place as usize;
        self.rows.swap_remove(place);
        if let Some(&(_, moved)) = self.rows.get(place) {
            self.places[moved as usize] = place as u32;
            self.rise(place);
            self.sink(self.places[moved as usize] as usize);
        }
    }

    fn rise(&mut self, mut place: usize) {
        let row = self.rows[place];
        while place > 0 {
            let above = (place - 1) / 2;
            if self.rows[above] <= row {
                break;
            }
            self.put(place, self.rows[above]);
            place = above;
        }
        self.put(place, row);
    }

    fn sink(&mut self, mut place: usize) {
        let row = self.rows[place];
        loop {
            let mut below = 2 * place + 1;
            if below >= self.rows.len() {
                break;
            }
            if below + 1 < self.rows.len() && self.rows[below + 1] < self.rows[below] {
                below += 1;
            }
            if row <= self.rows[below] {
                break;
            }
            self.put(place, self.rows[below]);
            place = below;
        }
        self.put(place, row);
    }

    fn put(&mut self, place: usize, row: (u128, u32)) {
        self.rows[place] = row;
        self.places[row.1 as usize] = place as u32;
    }
}
