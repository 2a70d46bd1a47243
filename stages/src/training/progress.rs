//! The progress reports of a training run.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hamflow_stage_api::{StageContext, StageError, Symlinks, open_with, remaining_time};

use super::curves::SIDE_FILE;
use crate::ml::tensorboard::EventFile;
use crate::ml::trainer::{EpochRecord, StepReport};

/// Reports training progress: to the terminal, and to files that can be read while training runs.
pub(super) struct ProgressReporter<'a> {
    context: &'a StageContext<'a>,
    trial: Option<&'a str>,
    /// Where the files for other programs are.
    folder: PathBuf,
    events: EventFile,
    epochs: usize,
    images: usize,
    /// When this process started, and after how many epochs.
    started: (Instant, usize),
    epoch_started: Instant,
    told: Instant,
}

/// Minimum time between two progress reports of steps.
const REPORT_EVERY: Duration = Duration::from_millis(250);

impl<'a> ProgressReporter<'a> {
    pub(super) fn new(
        context: &'a StageContext<'a>,
        trial: Option<&'a str>,
        epochs: usize,
        images: usize,
    ) -> Result<Self, StageError> {
        let now = Instant::now();
        let folder = trial.map_or_else(|| context.side_dir().to_owned(), |trial| context.side_dir().join(trial));
        if trial.is_some() {
            // A trial that continues in a later round writes all its epochs again.
            match std::fs::remove_dir_all(&folder) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StageError::io("remove", &folder, &source));
                }
                _ => {}
            }
        }
        std::fs::create_dir_all(&folder).map_err(|source| StageError::io("create", &folder, &source))?;
        let events = EventFile::create(&folder).map_err(|source| StageError::io("make a file in", &folder, &source))?;
        Ok(Self { context, trial, folder, events, epochs, images, started: (now, 0), epoch_started: now, told: now })
    }

    pub(super) fn resume_after(&mut self, epochs: usize) {
        let now = Instant::now();
        (self.started, self.epoch_started) = ((now, epochs), now);
    }

    /// The estimated remaining time, assuming a constant rate.
    fn time_left(&self, epochs: usize, images: usize) -> String {
        let (since, before) = self.started;
        let done = (epochs - before) * self.images + images;
        let left = (self.epochs - epochs) * self.images - images;
        remaining_time(since.elapsed().as_secs_f64() / done.max(1) as f64 * left as f64)
    }

    fn speed(&self, images: usize) -> f64 {
        images as f64 / self.epoch_started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Reports the images of an epoch so far, numbered from 1.
    fn tell(&self, epoch: usize, images: usize, message: String) {
        let (done, total) = ((epoch - 1) * self.images + images, self.epochs * self.images);
        let round = format!("epoch {epoch}/{} · {images}/{} images", self.epochs, self.images);
        self.context.progress_of_round(done as u64, total as u64, "images", round, message);
    }

    pub(super) fn step(&mut self, report: StepReport) {
        if self.told.elapsed() < REPORT_EVERY {
            return;
        }
        self.told = Instant::now();
        let StepReport { epoch, images, loss, accuracy, learning_rate } = report;
        let message = format!(
            "loss {loss:.4}, accuracy {accuracy:.3}, learning rate {learning_rate:.2e}, {:.0} images/s, {}",
            self.speed(images),
            self.time_left(epoch - 1, images)
        );
        self.tell(epoch, images, message);
    }

    pub(super) fn epoch(&mut self, record: &EpochRecord) -> Result<(), StageError> {
        let EpochRecord { epoch, learning_rate, train_loss, train_accuracy, .. } = *record;
        let mut message =
            format!("loss {train_loss:.4}, accuracy {train_accuracy:.3}, learning rate {learning_rate:.2e}");
        if let (Some(loss), Some(accuracy)) = (record.validation_loss, record.validation_accuracy) {
            message.push_str(&format!(", validation loss {loss:.4}, validation accuracy {accuracy:.3}"));
        }
        message.push_str(&format!(", {:.0} images/s, {}", self.speed(self.images), self.time_left(epoch, 0)));
        let of_epoch = format!("epoch {epoch}/{}, {message}", self.epochs);
        match self.trial {
            Some(trial) => self.context.log(format!("{trial}: {of_epoch}")),
            None => self.context.log(of_epoch),
        }
        self.tell(epoch, self.images, message);
        self.epoch_started = Instant::now();
        self.append(record)
    }

    /// Appends the epoch to `history.jsonl` and to the TensorBoard events, both side outputs.
    pub(super) fn append(&mut self, record: &EpochRecord) -> Result<(), StageError> {
        let mut scalars = vec![
            ("loss/training", record.train_loss),
            ("accuracy/training", record.train_accuracy),
            ("learning_rate", record.learning_rate),
        ];
        scalars.extend(record.validation_loss.map(|loss| ("loss/validation", loss)));
        scalars.extend(record.validation_accuracy.map(|accuracy| ("accuracy/validation", accuracy)));
        let added = self.events.scalars(record.epoch as u64, &scalars);
        added.map_err(|source| StageError::io("write events to", &self.folder, &source))?;

        let path = self.folder.join(SIDE_FILE);
        let mut line = serde_json::to_vec(record)
            .map_err(|error| StageError::bug(format!("cannot serialise an epoch: {error}")))?;
        line.push(b'\n');
        open_with(OpenOptions::new().create(true).append(true), &path, Symlinks::Refuse)
            .and_then(|mut file| file.write_all(&line))
            .map_err(|source| StageError::io("write", &path, &source))
    }
}
