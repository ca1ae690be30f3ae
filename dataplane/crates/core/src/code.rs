//! The gRPC codes.

/// The seventeen gRPC codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Each code at the index of its number: with its name and its number as a header value.
const CODES: [(Code, &str, &str); 17] = [
    (Code::Ok, "OK", "0"),
    (Code::Cancelled, "CANCELLED", "1"),
    (Code::Unknown, "UNKNOWN", "2"),
    (Code::InvalidArgument, "INVALID_ARGUMENT", "3"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "4"),
    (Code::NotFound, "NOT_FOUND", "5"),
    (Code::AlreadyExists, "ALREADY_EXISTS", "6"),
    (Code::PermissionDenied, "PERMISSION_DENIED", "7"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", "8"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", "9"),
    (Code::Aborted, "ABORTED", "10"),
    (Code::OutOfRange, "OUT_OF_RANGE", "11"),
    (Code::Unimplemented, "UNIMPLEMENTED", "12"),
    (Code::Internal, "INTERNAL", "13"),
    (Code::Unavailable, "UNAVAILABLE", "14"),
    (Code::DataLoss, "DATA_LOSS", "15"),
    (Code::Unauthenticated, "UNAUTHENTICATED", "16"),
];

impl Code {
    /// Every code in the order of its number.
    pub const ALL: [Self; 17] = {
        let mut all = [Self::Ok; 17];
        let mut number = 0;
        while number < all.len() {
            all[number] = CODES[number].0;
            number += 1;
        }
        all
    };

    /// The code with this number; `None` above 16.
    pub fn from_u8(number: u8) -> Option<Self> {
        CODES.get(usize::from(number)).map(|row| row.0)
    }

    /// The name as configuration, metrics and logs spell it, e.g. `NOT_FOUND`.
    pub const fn name(self) -> &'static str {
        CODES[self as usize].1
    }

    /// The code with this name; `None` for anything else, other case included.
    pub fn from_name(name: &str) -> Option<Self> {
        CODES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The code of an answer that has this HTTP status, other than 200, and no `grpc-status`.
    ///
    /// Source: grpc/grpc, doc/http-grpc-status-mapping.md.
    pub fn from_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// Its number, as headers have it.
    pub const fn digits(self) -> &'static str {
        CODES[self as usize].2
    }
}
