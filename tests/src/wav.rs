//! Tones: written as WAV files for phones to play, and found again in what phones recorded.

use std::f64::consts::TAU;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Samples per second of everything here: what G.711 carries.
pub const RATE_HZ: u32 = 8000;

/// Tones looked for, in hertz.
const TONES_HZ: std::ops::RangeInclusive<u32> = 200..=1600;

/// Length of what is analysed: the resolution is its reciprocal, 5 Hz.
const WINDOW: usize = (RATE_HZ / 5) as usize;

/// A window quieter than this, as root mean square of 16-bit samples, is silence.
const SILENCE_RMS: f64 = 100.0;

/// Share of a window's energy that must lie in one frequency for it to be a tone.
const PURITY_MIN: f64 = 0.7;

/// Share of the windows with sound that must agree on the tone.
const AGREEMENT_MIN: f64 = 0.8;

/// Writes whole seconds of a sine of `hertz`, mono, 16 bits, at half of full scale.
///
/// # Errors
/// The file cannot be written.
pub fn write_tone(path: &Path, hertz: f64, length: Duration) -> Result<()> {
    let samples = u32::try_from(length.as_secs()).context("a tone too long")? * RATE_HZ;
    let data_bytes = samples * 2;
    let mut bytes = Vec::with_capacity(44 + data_bytes as usize);
    bytes.extend(b"RIFF");
    bytes.extend((36 + data_bytes).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes()); // PCM
    bytes.extend(1u16.to_le_bytes()); // mono
    bytes.extend(RATE_HZ.to_le_bytes());
    bytes.extend((RATE_HZ * 2).to_le_bytes());
    bytes.extend(2u16.to_le_bytes());
    bytes.extend(16u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(data_bytes.to_le_bytes());
    for i in 0..samples {
        let phase = TAU * hertz * f64::from(i) / f64::from(RATE_HZ);
        bytes.extend(sample(phase.sin() / 2.0).to_le_bytes());
    }
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// A 16-bit sample of a value in -1..=1.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a cast from a float saturates"
)]
fn sample(value: f64) -> i16 {
    (value * f64::from(i16::MAX)) as i16
}

/// Reads 16-bit mono samples. A file that is still being written has no length yet: it ends where
/// it ends.
///
/// # Errors
/// Not a WAV file, or not 16-bit mono at 8 kHz.
pub fn read(path: &Path) -> Result<Vec<i16>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    samples(&bytes).with_context(|| format!("{}", path.display()))
}

fn samples(bytes: &[u8]) -> Result<Vec<i16>> {
    if bytes.get(..4) != Some(b"RIFF") || bytes.get(8..12) != Some(b"WAVE") {
        bail!("not a WAV file");
    }
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, body)) = rest.split_at_checked(8) {
        let (name, length) = head.split_at(4);
        let length: [u8; 4] = length.try_into().context("chunk length")?;
        let length = u32::from_le_bytes(length) as usize;
        if name == b"fmt " {
            let format = body.get(..16).context("cut in its format")?;
            let rate = RATE_HZ.to_le_bytes();
            if format.get(..4) != Some(&[1, 0, 1, 0]) || format.get(4..8) != Some(&rate) {
                bail!("not PCM, mono, {RATE_HZ} Hz");
            }
        }
        if name == b"data" {
            let data = if length == 0 {
                body
            } else {
                body.get(..length).unwrap_or(body)
            };
            let pairs = data.as_chunks::<2>().0;
            return Ok(pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect());
        }
        rest = body.get(length + (length & 1)..).unwrap_or_default();
    }
    bail!("a WAV file without data")
}

/// The frequency of a steady tone, to 5 Hz; none in silence, noise and mixtures.
#[must_use]
pub fn tone(samples: &[i16]) -> Option<f64> {
    let windows = samples.as_chunks::<WINDOW>().0;
    let sounding: Vec<_> = windows
        .iter()
        .filter(|w| rms(&w[..]) >= SILENCE_RMS)
        .collect();
    let mut found: Vec<u32> = sounding
        .iter()
        .filter_map(|w| window_tone(&w[..]))
        .collect();
    found.sort_unstable();
    let median = *found.get(found.len() / 2)?;
    let agreeing = found.iter().filter(|f| f.abs_diff(median) <= 5).count();
    let share = agreeing as f64 / sounding.len() as f64;
    (share >= AGREEMENT_MIN).then_some(f64::from(median))
}

fn rms(window: &[i16]) -> f64 {
    (energy(window) / window.len() as f64).sqrt()
}

fn energy(window: &[i16]) -> f64 {
    window.iter().map(|s| f64::from(*s).powi(2)).sum()
}

/// The strongest frequency of a window, if most of the energy is in it.
fn window_tone(window: &[i16]) -> Option<u32> {
    let step = RATE_HZ as usize / WINDOW;
    let (power, hertz) = TONES_HZ
        .step_by(step)
        .map(|hertz| (goertzel(window, f64::from(hertz)), hertz))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    // A sine of N samples and energy E has the power E·N/2 in its frequency.
    let purity = power / (energy(window) * window.len() as f64 / 2.0);
    (purity >= PURITY_MIN).then_some(hertz)
}

/// Power of one frequency in a window (Goertzel's algorithm).
fn goertzel(window: &[i16], hertz: f64) -> f64 {
    let turn = 2.0 * (TAU * hertz / f64::from(RATE_HZ)).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in window {
        (one, two) = (f64::from(*sample) + turn * one - two, one);
    }
    one * one + two * two - turn * one * two
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hertz: f64, milliseconds: u32, scale: f64) -> Vec<i16> {
        let count = milliseconds * RATE_HZ / 1000;
        let value = |i| (TAU * hertz * f64::from(i) / f64::from(RATE_HZ)).sin() * scale;
        (0..count)
            .map(|i| sample(value(i) / f64::from(i16::MAX)))
            .collect()
    }

    fn check(samples: &[i16], expected: Option<f64>) {
        assert_eq!(tone(samples), expected);
    }

    #[test]
    fn a_tone_is_found_and_nothing_else() {
        check(&sine(440.0, 1000, 9000.0), Some(440.0));
        check(&sine(620.0, 500, 300.0), Some(620.0));
        check(&[], None);
        check(&[0; 8000], None);
        check(&sine(440.0, 100, 9000.0), None); // too short to say
        let both = std::iter::zip(sine(440.0, 1000, 9000.0), sine(620.0, 1000, 9000.0));
        check(&both.map(|(a, b)| a + b).collect::<Vec<_>>(), None);
        let mut random = 1u32;
        let noise = std::iter::repeat_with(|| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 18) as i16
        });
        check(&noise.take(8000).collect::<Vec<_>>(), None);
        // Silence around a tone, as when a call begins, does not hide it.
        let late: Vec<i16> = [vec![0; 8000], sine(500.0, 1000, 5000.0)].concat();
        check(&late, Some(500.0));
        // Half of the time another tone: which one is it?
        let change = [sine(440.0, 1000, 5000.0), sine(620.0, 1000, 5000.0)].concat();
        check(&change, None);
    }

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("tone-{}.wav", std::process::id()));
        write_tone(&path, 440.0, Duration::from_secs(1)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        check(&samples(&bytes).unwrap(), Some(440.0));
        bytes[40..44].fill(0); // as in a file still being written
        assert_eq!(samples(&bytes).unwrap().len(), 8000);
        bytes.truncate(1000);
        assert_eq!(samples(&bytes).unwrap().len(), 478);
        for cut in 0..44 {
            // Never a panic, whatever is missing.
            drop(samples(&bytes[..cut]));
        }
    }
}
