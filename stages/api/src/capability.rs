//! What only some kinds can do, each a trait of its own over the kind's parameters `P`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Input, Inputs, ParamError, Part, PartOutput, StageContext, StageError};

/// The information that is available before a stage runs, besides its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Planning<'a> {
    /// The inputs. Planning may read tables in full, but only the listing and digests of other inputs. The digests may be
    /// [unread](crate::FileDigest::Unread) if the kind [reads once](crate::KindSpec::reads_once) or uses only names.
    pub inputs: &'a Inputs,
    /// The seed, for seeded kinds.
    pub seed: Option<u64>,
}

/// Work that is split into parts, each with its own key.
pub trait Parts<P> {
    /// Splits the work. Called in the engine's process when the stage is ready, so it must be fast; the result is cached by the
    /// digests of the inputs once all are known.
    fn plan(&self, params: &P, planning: Planning<'_>) -> Result<Vec<Part>, StageError>;

    /// The parts of the next round, given all parts so far in order; none if the work is complete, which is the default.
    ///
    /// Called in the engine's process whenever all parts are built, so it must be fast. Its result must depend on nothing but its
    /// arguments.
    fn extend(&self, _params: &P, _planning: Planning<'_>, _parts: &[PartOutput]) -> Result<Vec<Part>, StageError> {
        Ok(Vec::new())
    }

    /// Whether the parameters of the stage are in the key of each part. If not, [`Part::key`] must contain what the part depends on.
    fn keys_parameters(&self) -> bool {
        true
    }

    /// Runs one part, in a worker.
    fn run_part(&self, params: &P, context: &StageContext<'_>) -> Result<(), StageError>;

    /// Produces the outputs that are made once from all parts, in a worker.
    fn merge(&self, params: &P, context: &StageContext<'_>, parts: &[PartOutput]) -> Result<(), StageError>;
}

/// The columns and rows that a kind reads from some inputs, as canonical text.
///
/// Each line holds the row's name, a tab, and the values read. The digest of the text enters the key. The engine also keeps the
/// text, so that `hamflow why` can name the rows that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// A description for people, e.g. ``image_id, label and split of the training and validation rows``.
    pub name: String,
    /// The rows.
    pub text: String,
}

/// Projections of inputs that enter the key instead of all their bytes.
pub trait Views<P> {
    /// The views that enter the key in place of the inputs at ports with [`Access::View`](crate::Access::View).
    ///
    /// The result is cached by the digests of the inputs.
    fn project(&self, params: &P, planning: Planning<'_>) -> Result<Vec<View>, StageError>;
}

/// Results that depend on the device that they are made on.
pub trait Devices<P> {
    /// The device class that the results depend on, e.g. `cpu`; `None` if they are the same on all devices that these
    /// parameters choose.
    ///
    /// Fails if the requested device is not available.
    fn class(&self, params: &P) -> Result<Option<String>, ParamError>;

    /// What decides the device class, read without starting a device: while it is the same, so is the class. `None` if that
    /// is not known.
    fn evidence(&self) -> Option<String> {
        None
    }

    /// Whether a result that the lock file records for the same inputs on another device class may be used if there is none for this
    /// machine's class.
    fn accepts_others(&self, _params: &P) -> bool {
        false
    }
}

/// Columns of tables that are known before a run.
pub trait Columns<P> {
    /// The columns that a stage with these parameters reads, as pairs of port and column. A table that is known to lack one is
    /// rejected before anything runs.
    fn read(&self, _params: &P) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The columns of the table `output` of a stage with these parameters; `None` if they are only known after a run. `of` returns the
    /// columns of the table at a port.
    fn made(&self, _params: &P, _output: &str, _of: &dyn Fn(&str) -> Option<Vec<String>>) -> Option<Vec<String>> {
        None
    }
}

/// Versions of programs that results depend on, by name.
pub type Versions = BTreeMap<String, String>;

/// Results that depend on installed software.
pub trait Tools<P> {
    /// What must be asked to know the versions for these parameters. A question is asked once in a run, whatever stages have it.
    fn questions(&self, params: &P) -> Vec<String>;

    /// The versions that answer a question; fails if the software is not there. `project` is the project's root.
    fn versions(&self, question: &str, project: &Path) -> Result<Versions, StageError>;
}

/// Parameters that may name files of the project.
pub trait Files<P> {
    /// The arguments that may name files of the project. Those files are implicit inputs.
    fn candidates(&self, params: &P) -> Vec<String>;
}

/// A picture of what a stage does.
pub trait Preview<P> {
    /// A PNG that shows the effect of these parameters on about `sample` inputs without running the stage.
    fn render(&self, params: &P, planning: Planning<'_>, sample: usize) -> Result<Vec<u8>, StageError>;
}

/// The values that a stage has recorded so far, or those of a finished one, for [`Curves::draw`].
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// The name that tells the series from others in the same image.
    pub name: &'a str,
    /// The content of [`Curves::side_file`] or of [`Curves::output`].
    pub values: &'a [u8],
}

/// Curves of what a stage measures while it works, such as the loss of a training.
pub trait Curves: Sync {
    /// The file among the side outputs that the stage appends to while it works. A stage that makes several trials has one in the folder
    /// of each.
    fn side_file(&self) -> &'static str;

    /// The output that holds the same values once the stage is done.
    fn output(&self) -> &'static str;

    /// Draws the series in one SVG image. An incomplete last line, which is still being written, is left out.
    fn draw(&self, series: &[Series<'_>]) -> Result<String, StageError>;
}

/// Titles and SVG images.
pub type DrawnPlots = Vec<(String, String)>;

/// Figures of the outputs of a stage, as its parameters declare them.
pub trait Plots<P> {
    /// The names of the outputs with figures. Each is a file.
    fn plotted(&self, params: &P) -> Vec<String>;

    /// Draws each figure of an output, in one run or in several, as an image with its title. The values are the content of the output.
    fn draw(&self, params: &P, output: &str, series: &[Series<'_>]) -> Result<DrawnPlots, StageError>;
}

/// How a metric differs between two results of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedDifference {
    /// The path of the metric within the metrics of the stage, such as `test.accuracy`.
    pub metric: String,
    /// The second result's value minus the first's.
    pub value: f64,
    /// The 95 % confidence interval of the difference.
    pub interval: [f64; 2],
}

/// The comparison of two results of a stage that measured the same rows.
pub trait Pairs: Sync {
    /// The output that is compared.
    fn output(&self) -> &'static str;

    /// The differences of the metrics. An error says why the results cannot be paired.
    fn differences(&self, results: [&Input; 2]) -> Result<Vec<PairedDifference>, StageError>;
}
