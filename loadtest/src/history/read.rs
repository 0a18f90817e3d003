//! A history as a file: JSON, one line each, so that a run can be looked at and checked again later.
//! Must never drop a line that it cannot read. Called by whoever keeps a history.

use std::io::{BufRead, Write};

use super::{History, Line};

/// Why a history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error("input/output: {0}")]
    Io(#[from] std::io::Error),
    /// A line that is none of a history.
    #[error("line {number}: {error}")]
    Line {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

/// Reads a history.
///
/// # Errors
/// See [`HistoryError`].
pub fn read(from: impl BufRead) -> Result<History, HistoryError> {
    from.lines()
        .zip(1..)
        .map(|(line, number)| {
            serde_json::from_str(&line?).map_err(|error| HistoryError::Line { number, error })
        })
        .collect()
}

/// Writes a history.
///
/// # Errors
/// See [`HistoryError`].
pub fn write(history: &[Line], mut to: impl Write) -> Result<(), HistoryError> {
    for (line, number) in history.iter().zip(1..) {
        serde_json::to_writer(&mut to, line)
            .map_err(|error| HistoryError::Line { number, error })?;
        to.write_all(b"\n")?;
    }
    Ok(to.flush()?)
}
