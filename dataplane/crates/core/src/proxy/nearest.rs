//! Which known names look most like one that is not.

/// Up to three known names, nearest first by edit distance.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    /// Comparing with more than this many names would let wrong names cost real work.
    const MAX_COMPARED: usize = 1000;
    let mut ranked: Vec<_> = known
        .take(MAX_COMPARED)
        .map(|other| (distance(name, other), other))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(3).map(|(_, other)| other).collect()
}

/// Levenshtein distance over bytes of the first 64.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (
        &left.as_bytes()[..left.len().min(64)],
        &right.as_bytes()[..right.len().min(64)],
    );
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
