//! What keeps calls on one endpoint (policy `maglev`): hashes that are the same in every process and release.

use crate::headers::Headers;

/// FNV-1a, 64 bits (draft-eastlake-fnv). Short keys, and the balancer mixes the result.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Hash of the call's value of this metadata key; none where the call has none.
pub fn of_call(headers: &Headers, key: &str) -> Option<u64> {
    headers.get(key).map(stable_hash)
}

#[cfg(test)]
mod tests {
    use super::stable_hash;

    #[test]
    fn hashes_are_those_of_the_draft() {
        assert_eq!(stable_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(stable_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
