//! Every file of the corpus keeps its target's properties: seeds, and what the fuzzer once found.

use std::fs;
use std::path::{Path, PathBuf};

use crate::TARGETS;

const MOST_FILES: usize = 200;
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
fn frames_are_counted_alike_however_their_bytes_come() {
    replay("frames");
}

#[test]
fn paths_and_timeouts_are_read_as_the_protocol_says() {
    replay("head");
}

#[test]
fn load_reports_are_read_as_any_decoder_reads_them() {
    replay("load_report");
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
