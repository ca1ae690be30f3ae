//! Consistent hashing by table (Eisenbud et al.: Maglev, NSDI 2016): the same key goes to the same endpoint, and when an
//! endpoint comes or goes few keys move.

use super::random::mix;

/// Rows of the table: a prime, and a hundred times more than endpoints.
const ROWS: usize = 65_537;

#[derive(Debug, Default)]
pub struct Maglev {
    /// (identity, weight) of each slot.
    endpoints: Vec<(u64, u32)>,
    /// Row -> slot.
    rows: Vec<u32>,
}

impl Maglev {
    /// A table for endpoints given as (identity, weight).
    pub fn new(endpoints: &[(u64, u32)]) -> Self {
        if endpoints.is_empty() {
            return Self::default();
        }
        let most = endpoints
            .iter()
            .map(|&(_, weight)| weight)
            .max()
            .unwrap_or(1);
        let mut rows = vec![u32::MAX; ROWS];
        let mut steps: Vec<(usize, usize)> = endpoints
            .iter()
            .map(|&(id, _)| {
                let hash = mix(id.wrapping_add(0x9e37_79b9_7f4a_7c15));
                let (offset, skip) = (hash % ROWS as u64, (hash >> 32) % (ROWS as u64 - 1));
                (offset as usize, skip as usize + 1)
            })
            .collect();
        // Every process has its own order of endpoints, and all are to have the same table.
        let mut turns: Vec<usize> = (0..endpoints.len()).collect();
        turns.sort_unstable_by_key(|&slot| endpoints[slot]);
        let mut credits = vec![0.0; endpoints.len()];
        let mut filled = 0;
        // Each in turn takes the next free row of its own order; a lighter one sits out turns.
        loop {
            for &slot in &turns {
                let weight = endpoints[slot].1;
                credits[slot] += f64::from(weight) / f64::from(most);
                if credits[slot] < 1.0 {
                    continue;
                }
                credits[slot] -= 1.0;
                let (row, skip) = &mut steps[slot];
                while rows[*row] != u32::MAX {
                    *row = (*row + *skip) % ROWS;
                }
                rows[*row] = slot as u32;
                filled += 1;
                if filled == ROWS {
                    return Self {
                        endpoints: endpoints.to_vec(),
                        rows,
                    };
                }
            }
        }
    }

    /// Whether it was made for these.
    pub fn is_of(&self, endpoints: &[(u64, u32)]) -> bool {
        self.endpoints == endpoints
    }

    /// The slots that the key prefers, the best first; some come twice.
    pub fn order(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let start = (mix(key) % ROWS as u64) as usize;
        let rows = self.rows.len();
        (0..rows).map(move |step| self.rows[(start + step) % rows] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::Maglev;

    #[test]
    fn keys_prefer_the_same_endpoints_whatever_their_order() {
        let one = [(7, 1), (3, 2), (9, 1)];
        let other = [(3, 2), (9, 1), (7, 1)];
        let (a, b) = (Maglev::new(&one), Maglev::new(&other));
        for key in 0..500 {
            let ids = |table: &Maglev, of: &[(u64, u32)]| -> Vec<u64> {
                table.order(key).take(20).map(|slot| of[slot].0).collect()
            };
            assert_eq!(ids(&a, &one), ids(&b, &other));
        }
    }
}
