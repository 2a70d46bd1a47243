//! Inference on a device: logits and heat maps of a network with its weights.

use super::CudaError;
use super::buffer::{Buffer, Number, f32_values};
use super::cursor::Cursor;
use super::epoch_buffer::{EpochBuffer, EpochValues};
use super::queue::Queue;
use super::session::{Session, Settings, Source};
use crate::augment::Draw;
use crate::loss::Target;
use crate::network::{HeatMap, Network};
use crate::normalisation::Normalisation;
use crate::precision::Precision;
use crate::trainer::INFERENCE_BATCH;
use hamflow_kernels::shape::MapShape;

/// A network with its weights on a device.
pub struct CudaModel<Q: Queue> {
    session: Session<Q>,
    source: Source,
    logits: Buffer,
    input: MapShape,
    classes: usize,
    /// The map that heat maps explain.
    features: Option<usize>,
}

impl<Q: Queue> CudaModel<Q> {
    /// Uploads a network; `values` are its weights in the host's layout, then the running statistics.
    pub fn new(
        queue: Q,
        network: &Network,
        values: &[f32],
        normalisation: Normalisation,
        precision: Precision,
    ) -> Result<Self, CudaError> {
        let settings = Settings::new(precision, INFERENCE_BATCH, normalisation);
        let (input, classes) = (network.input(), network.classes());
        let mut session = Session::new(queue, network, &vec![0; network.parameters().len()], settings)?;
        session.load(values)?;
        let convolutions = session.plan().convolutions(INFERENCE_BATCH);
        session.queue.prepare(&convolutions)?;
        let source = Source {
            images: session.queue.allocate(Number::U8, INFERENCE_BATCH * input.len())?,
            epoch: EpochBuffer::new(&mut session.queue, INFERENCE_BATCH, 1, 0)?,
            cursor: session.queue.allocate(Number::U8, Cursor::SIZE)?,
        };
        let logits = session.queue.allocate(Number::F32, INFERENCE_BATCH * classes)?;
        Ok(Self { session, source, logits, input, classes, features: network.features() })
    }

    /// The logits of a view of at most [`INFERENCE_BATCH`] images given as bytes, `[images, classes]`.
    ///
    /// Batches are always of the same size, so that the logits of an image do not depend on the other ones.
    pub fn logits(&mut self, images: &[&[u8]], view: &Draw) -> Result<Vec<f32>, CudaError> {
        self.session.queue.upload(self.source.images, &images.concat())?;
        let order = (0..INFERENCE_BATCH).map(|place| if place < images.len() { place as u32 } else { 0 }).collect();
        let targets = vec![Target::new(0, 0.0); INFERENCE_BATCH];
        let values = EpochValues { order, targets, ..EpochValues::default() };
        let moves = *view != Draw::NONE;
        let values = if moves { values.moved(&[*view; INFERENCE_BATCH], self.input) } else { values };
        self.source.epoch.upload(&mut self.session.queue, &values)?;
        self.session.set_cursor(self.source.cursor, Cursor::default())?;
        self.session.predict(&self.source, INFERENCE_BATCH, moves, self.logits)?;
        let mut logits = f32_values(&self.session.queue.download(self.logits)?);
        logits.truncate(images.len() * self.classes);
        Ok(logits)
    }

    /// A Grad-CAM heat map of the last feature map for each of at most [`INFERENCE_BATCH`] images and its class; `None` if the
    /// network has none.
    pub fn heat_maps(&mut self, images: &[(&[u8], usize)]) -> Result<Option<Vec<HeatMap>>, CudaError> {
        let Some(map) = self.features else { return Ok(None) };
        let bytes: Vec<&[u8]> = images.iter().map(|(image, _)| *image).collect();
        self.logits(&bytes, &Draw::NONE)?;
        let mut factors = vec![0.0; INFERENCE_BATCH * self.classes];
        for (row, (_, class)) in factors.chunks_exact_mut(self.classes).zip(images) {
            row[*class] = 1.0;
        }
        let shape = self.session.plan().maps[map].shape;
        let [values, gradient] = self.session.explain(map, &factors, INFERENCE_BATCH)?;
        let maps = values.chunks_exact(shape.len()).zip(gradient.chunks_exact(shape.len())).take(images.len());
        Ok(Some(maps.map(|(values, gradient)| HeatMap::combine(shape, values, gradient)).collect()))
    }
}
