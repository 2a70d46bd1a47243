//! Kinds of stage with the type of their parameters erased, as the engine holds them in a table.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Curves, DrawnPlots, EventSink, Job, JobPart, Kind, KindSpec, Output, Pairs, ParamError, Params, Part, PartOutput,
    Plan, Planning, Series, StageContext, StageError, Versions, View, parameters,
};

/// The validated parameters of a stage with all defaults: as JSON and in the form that its kind works with.
#[derive(Clone)]
pub struct Resolved {
    json: Params,
    typed: Arc<dyn Any + Send + Sync>,
}

impl Resolved {
    fn new<P: Serialize + JsonSchema + Send + Sync + 'static>(params: P) -> Result<Self, ParamError> {
        let json = parameters::to_json(&params)?;
        parameters::check_ranges::<P>(&json)?;
        Ok(Self { json, typed: Arc::new(params) })
    }

    /// The parameters as they enter keys, keys sorted.
    pub fn json(&self) -> &Params {
        &self.json
    }

    fn get<P: 'static>(&self) -> &P {
        self.typed.downcast_ref().expect("parameters are passed to the kind that resolved them")
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json.fmt(f)
    }
}

/// A [`Kind`] with any parameters, implemented for every kind.
///
/// Each method with `params` panics if another kind resolved them. What a kind cannot do has the neutral result.
pub trait AnyKind: Sync {
    /// The static properties of the kind.
    fn spec(&self) -> KindSpec;

    /// The JSON Schema of the parameters.
    fn schema(&self) -> Value;

    /// Validates the parameters and fills in the defaults. Resolved parameters resolve to themselves.
    fn resolve(&self, params: &Params) -> Result<Resolved, ParamError>;

    /// The outputs of a stage with these parameters.
    fn outputs(&self, params: &Resolved) -> Vec<Output>;

    /// The outputs with the default parameters, also where some parameter has no valid default; none if they depend on it.
    fn default_outputs(&self) -> Vec<Output>;

    /// [`Columns::read`](crate::Columns::read); none by default.
    fn columns_read(&self, params: &Resolved) -> Vec<(&'static str, String)>;

    /// [`Columns::made`](crate::Columns::made); unknown by default.
    fn columns_made(
        &self,
        params: &Resolved,
        output: &str,
        of: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Option<Vec<String>>;

    /// [`Devices::class`](crate::Devices::class); `None` if the results do not depend on a device.
    fn device_class(&self, params: &Resolved) -> Result<Option<String>, ParamError>;

    /// [`Devices::accepts_others`](crate::Devices::accepts_others).
    fn accepts_other_devices(&self, params: &Resolved) -> bool;

    /// See [`Devices::evidence`](crate::Devices::evidence).
    fn device_evidence(&self) -> Option<String>;

    /// [`Tools::questions`](crate::Tools::questions); none by default.
    fn tool_questions(&self, params: &Resolved) -> Vec<String>;

    /// [`Tools::versions`](crate::Tools::versions); none by default.
    fn tool_versions(&self, question: &str, project: &Path) -> Result<Versions, StageError>;

    /// [`Files::candidates`](crate::Files::candidates); none by default.
    fn candidate_files(&self, params: &Resolved) -> Vec<String>;

    /// [`Views::project`](crate::Views::project); none by default.
    fn views(&self, params: &Resolved, planning: Planning<'_>) -> Result<Vec<View>, StageError>;

    /// [`Parts::plan`](crate::Parts::plan); [`Plan::Whole`] by default.
    fn plan(&self, params: &Resolved, planning: Planning<'_>) -> Result<Plan, StageError>;

    /// [`Parts::extend`](crate::Parts::extend); none by default.
    fn extend(&self, params: &Resolved, planning: Planning<'_>, parts: &[PartOutput]) -> Result<Vec<Part>, StageError>;

    /// [`Parts::keys_parameters`](crate::Parts::keys_parameters).
    fn parts_key_parameters(&self) -> bool;

    /// [`Kind::observes`].
    fn observes(&self, params: &Resolved) -> bool;

    /// [`Kind::curves`]; none by default.
    fn curves(&self) -> Option<&dyn Curves>;

    /// [`Kind::pairs`]; none by default.
    fn pairs(&self) -> Option<&dyn Pairs>;

    /// [`Plots::plotted`](crate::Plots::plotted); none by default.
    fn plotted_outputs(&self, params: &Resolved) -> Vec<String>;

    /// [`Plots::draw`](crate::Plots::draw); nothing by default.
    fn draw_plots(&self, params: &Resolved, output: &str, series: &[Series<'_>]) -> Result<DrawnPlots, StageError>;

    /// [`Preview::render`](crate::Preview::render); `None` if the kind has no preview.
    fn preview(&self, params: &Resolved, planning: Planning<'_>, sample: usize) -> Result<Option<Vec<u8>>, StageError>;

    /// Runs a stage that is not split into parts.
    fn run(&self, params: &Resolved, context: &StageContext<'_>) -> Result<(), StageError>;

    /// Runs one part. An internal error if the kind does not work in parts.
    fn run_part(&self, params: &Resolved, context: &StageContext<'_>) -> Result<(), StageError>;

    /// Merges all parts. An internal error if the kind does not work in parts.
    fn merge(&self, params: &Resolved, context: &StageContext<'_>, parts: &[PartOutput]) -> Result<(), StageError>;
}

impl<K: Kind> AnyKind for K {
    fn spec(&self) -> KindSpec {
        Kind::spec(self)
    }

    fn schema(&self) -> Value {
        Kind::schema(self)
    }

    fn resolve(&self, params: &Params) -> Result<Resolved, ParamError> {
        Resolved::new(Kind::resolve(self, params)?)
    }

    fn outputs(&self, params: &Resolved) -> Vec<Output> {
        Kind::outputs(self, params.get())
    }

    fn default_outputs(&self) -> Vec<Output> {
        parameters::parse(&Params::new()).map_or_else(|_| Vec::new(), |params| Kind::outputs(self, &params))
    }

    fn columns_read(&self, params: &Resolved) -> Vec<(&'static str, String)> {
        self.columns().map_or_else(Vec::new, |columns| columns.read(params.get()))
    }

    fn columns_made(
        &self,
        params: &Resolved,
        output: &str,
        of: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Option<Vec<String>> {
        self.columns()?.made(params.get(), output, of)
    }

    fn device_class(&self, params: &Resolved) -> Result<Option<String>, ParamError> {
        self.devices().map_or(Ok(None), |devices| devices.class(params.get()))
    }

    fn device_evidence(&self) -> Option<String> {
        self.devices().and_then(|devices| devices.evidence())
    }

    fn accepts_other_devices(&self, params: &Resolved) -> bool {
        self.devices().is_some_and(|devices| devices.accepts_others(params.get()))
    }

    fn observes(&self, params: &Resolved) -> bool {
        Kind::observes(self, params.get())
    }

    fn tool_questions(&self, params: &Resolved) -> Vec<String> {
        self.tools().map_or_else(Vec::new, |tools| tools.questions(params.get()))
    }

    fn tool_versions(&self, question: &str, project: &Path) -> Result<Versions, StageError> {
        self.tools().map_or_else(|| Ok(Versions::new()), |tools| tools.versions(question, project))
    }

    fn candidate_files(&self, params: &Resolved) -> Vec<String> {
        self.files().map_or_else(Vec::new, |files| files.candidates(params.get()))
    }

    fn views(&self, params: &Resolved, planning: Planning<'_>) -> Result<Vec<View>, StageError> {
        Kind::views(self).map_or_else(|| Ok(Vec::new()), |views| views.project(params.get(), planning))
    }

    fn plan(&self, params: &Resolved, planning: Planning<'_>) -> Result<Plan, StageError> {
        match self.parts() {
            Some(parts) => parts.plan(params.get(), planning).map(Plan::Parts),
            None => Ok(Plan::Whole),
        }
    }

    fn extend(&self, params: &Resolved, planning: Planning<'_>, parts: &[PartOutput]) -> Result<Vec<Part>, StageError> {
        self.parts().map_or_else(|| Ok(Vec::new()), |split| split.extend(params.get(), planning, parts))
    }

    fn parts_key_parameters(&self) -> bool {
        self.parts().is_none_or(|split| split.keys_parameters())
    }

    fn curves(&self) -> Option<&dyn Curves> {
        Kind::curves(self)
    }

    fn pairs(&self) -> Option<&dyn Pairs> {
        Kind::pairs(self)
    }

    fn plotted_outputs(&self, params: &Resolved) -> Vec<String> {
        self.plots().map_or_else(Vec::new, |plots| plots.plotted(params.get()))
    }

    fn draw_plots(&self, params: &Resolved, output: &str, series: &[Series<'_>]) -> Result<DrawnPlots, StageError> {
        self.plots().map_or_else(|| Ok(Vec::new()), |plots| plots.draw(params.get(), output, series))
    }

    fn preview(&self, params: &Resolved, planning: Planning<'_>, sample: usize) -> Result<Option<Vec<u8>>, StageError> {
        Kind::preview(self).map(|preview| preview.render(params.get(), planning, sample)).transpose()
    }

    fn run(&self, params: &Resolved, context: &StageContext<'_>) -> Result<(), StageError> {
        Kind::run(self, params.get(), context)
    }

    fn run_part(&self, params: &Resolved, context: &StageContext<'_>) -> Result<(), StageError> {
        self.parts().ok_or_else(|| no_parts(context))?.run_part(params.get(), context)
    }

    fn merge(&self, params: &Resolved, context: &StageContext<'_>, parts: &[PartOutput]) -> Result<(), StageError> {
        self.parts().ok_or_else(|| no_parts(context))?.merge(params.get(), context, parts)
    }
}

fn no_parts(context: &StageContext<'_>) -> StageError {
    StageError::bug(format!("the kind of `{}` does not split work into parts", context.stage()))
}

/// Does a job of this kind. Its parameters are deserialised once.
pub fn perform(kind: &dyn AnyKind, job: &Job, events: &dyn EventSink) -> Result<(), StageError> {
    let params = kind.resolve(&job.params);
    let params = params.map_err(|error| {
        StageError::bug(format!("the resolved parameters of `{}` are rejected: {error}", job.stage))
    })?;
    let context = StageContext::new(job, events);
    match &job.part {
        JobPart::Whole => kind.run(&params, &context),
        JobPart::Part { .. } => kind.run_part(&params, &context),
        JobPart::Merge { parts } => kind.merge(&params, &context, parts),
    }
}
