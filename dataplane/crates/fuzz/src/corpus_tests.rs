//! Every file of the corpus keeps its target's properties: seeds, and what the fuzzer once found.

use std::fs;
use std::path::{Path, PathBuf};

use crate::TARGETS;

const MOST_FILES: usize = 300;
const MOST_BYTES: usize = 200_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let rows = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = rows.map(|row| row.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let files = entries(&corpus().join(name));
    assert!(!files.is_empty(), "the corpus of {name} is empty");
    for file in files {
        // Shown where the test fails.
        println!("{}", file.display());
        (target.run)(&fs::read(&file).unwrap());
    }
}

#[test]
fn no_history_of_calls_breaks_the_balancer() {
    replay("balance");
}

#[test]
fn a_configuration_is_applied_or_refused_whole() {
    replay("config");
}

#[test]
fn paths_and_timeouts_are_read_as_the_protocol_says() {
    replay("head");
}

#[test]
fn a_connection_means_the_same_in_any_pieces_and_to_another_implementation() {
    replay("http2");
}

#[test]
fn changed_frames_of_clients_mean_the_same_in_any_pieces_and_to_another_implementation() {
    change_frames(16, |bits| bits == 0);
}

#[test]
fn changed_frames_of_servers_mean_the_same_in_any_pieces_and_to_another_implementation() {
    change_frames(18, |bits| bits == 1);
}

#[test]
fn changed_frames_mean_the_same_whatever_the_settings() {
    change_frames(20, |_| true);
}

/// Changed seeds whose first byte is wanted.
fn change_frames(seed: u64, is_wanted: fn(u8) -> bool) {
    let seeds = entries(&corpus().join("http2"));
    let seeds = seeds.iter().map(|file| fs::read(file).unwrap());
    let seeds: Vec<_> = seeds.filter(|seed| is_wanted(seed[0])).collect();
    for round in 0..1000 {
        let data = Mutation(seed + round).changed_frames(&seeds);
        // Shown where the test fails.
        println!("round {round}: {data:?}");
        crate::http2::run(&data);
    }
}

#[test]
fn a_body_of_json_is_refused_or_read_whole_and_answered_in_json() {
    replay("json");
}

#[test]
fn changed_bodies_of_json_are_refused_or_read_whole_and_answered_in_json() {
    let seeds = entries(&corpus().join("json"));
    let seeds: Vec<_> = seeds.iter().map(|file| fs::read(file).unwrap()).collect();
    let seed = 14;
    for round in 0..4000 {
        let mut state = Mutation(seed + round);
        let data = state.changed(&seeds);
        // Shown where the test fails.
        println!("round {round}: {:?}", String::from_utf8_lossy(&data));
        crate::json::run(&data);
    }
}

/// Numbers that look like chance and are not (SplitMix64).
struct Mutation(u64);

impl Mutation {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    }

    /// One of the seeds with some bytes replaced, doubled or taken out, and a piece of another one in it.
    fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        const MARKS: &[u8] = b"{}[]\",:-+.eE0123456789 \\untrflsaN\x00\xff\xc3";
        let mut data = seeds[self.next(seeds.len())].clone();
        for _ in 0..=self.next(4) {
            let at = 1 + self.next(data.len().max(2) - 1);
            let at = at.min(data.len());
            match self.next(4) {
                0 => data.insert(at, MARKS[self.next(MARKS.len())]),
                1 if at < data.len() => data[at] = MARKS[self.next(MARKS.len())],
                2 if at < data.len() => drop(data.remove(at)),
                _ => {
                    let other = &seeds[self.next(seeds.len())];
                    let from = self.next(other.len());
                    let length = self.next((other.len() - from).min(24)) + 1;
                    let piece = other[from..from + length].to_vec();
                    data.splice(at..at, piece);
                }
            }
        }
        data
    }

    /// Frames of some seeds, a few of them doubled, left out, of another stream, with other flags or another byte.
    fn changed_frames(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        const HEAD: usize = 9;
        let mut data = Vec::new();
        for round in 0..=self.next(3) {
            let seed = &seeds[self.next(seeds.len())];
            let begin = 4 + usize::from(seed[3]);
            if round == 0 {
                data.extend_from_slice(&seed[..begin]);
            }
            let mut rest = &seed[begin..];
            while rest.len() >= HEAD {
                let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
                let (frame, after) = rest.split_at((HEAD + length).min(rest.len()));
                let mut frame = frame.to_vec();
                match self.next(12) {
                    0 => data.extend_from_slice(&frame),
                    1 => frame.clear(),
                    2 | 3 => frame[8] = self.next(12) as u8,
                    4 => frame[4] ^= 1 << self.next(6),
                    5 => frame[3] = self.next(11) as u8,
                    6 => {
                        let at = self.next(frame.len());
                        frame[at] = self.next(256) as u8;
                    }
                    _ => {}
                }
                data.extend_from_slice(&frame);
                rest = after;
            }
        }
        data
    }
}

#[test]
fn load_reports_are_read_as_any_decoder_reads_them() {
    replay("load_report");
}

#[test]
fn a_credential_that_nobody_gave_out_is_refused() {
    replay("credential");
}

#[test]
fn a_route_key_does_not_depend_on_how_its_message_is_cut() {
    replay("wire");
}

#[test]
fn each_target_has_its_corpus_and_all_of_them_are_small() {
    let folders = entries(&corpus());
    let names: Vec<_> = folders
        .iter()
        .map(|folder| folder.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, TARGETS.map(|target| target.name));
    let files: Vec<_> = folders.iter().flat_map(|folder| entries(folder)).collect();
    let bytes: usize = files.iter().map(|file| fs::read(file).unwrap().len()).sum();
    assert!(files.len() < MOST_FILES, "{} files", files.len());
    assert!(bytes < MOST_BYTES, "{bytes} bytes");
}
