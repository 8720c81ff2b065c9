//! Payloads into rows: one plan for one message, or one per schema of a registry.
//!
//! Invariant: a bad payload leaves the columns and the plan as they were.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use prost_reflect::MessageDescriptor;
use tidemill_core::{Error, ErrorKind, Result};

use super::plan::{Absent, MessagePlan, columns};
use super::{RegistryFormat, descriptors, walk};
use crate::Decoder;
use crate::column::Record;
use crate::registry::framing;

/// Decodes messages. See the [module](super).
pub struct ProtobufDecoder {
    schema: SchemaRef,
    record: Record,
    rows: usize,
    plans: Plans,
}

enum Plans {
    One(Box<MessagePlan>),
    Registry(Box<RegistryPlans>),
}

/// A plan for every frame that was met.
struct RegistryPlans {
    format: RegistryFormat,
    /// Whether the columns have been checked against the subject's latest schema.
    checked: bool,
    plans: Vec<FramePlan>,
    /// Index into `plans`, by frame.
    known: HashMap<Box<[u8]>, usize>,
    /// The frame before.
    last: usize,
    /// Why no payload can be judged, until somebody asks for the rows: an outage, or a wrong table.
    fatal: Option<Error>,
}

struct FramePlan {
    /// Magic byte, id and message indexes.
    frame: Box<[u8]>,
    /// Or why payloads of this frame fit no row.
    plan: Result<Box<MessagePlan>, String>,
}

impl ProtobufDecoder {
    pub(super) fn of_message(message: &MessageDescriptor, schema: SchemaRef) -> Result<Self> {
        let plan = MessagePlan::new(message, schema.fields(), Absent::Refused)?;
        Self::new(schema, Plans::One(Box::new(plan)))
    }

    pub(super) fn of_registry(format: RegistryFormat, schema: SchemaRef) -> Result<Self> {
        let plans = RegistryPlans {
            format,
            checked: false,
            plans: Vec::new(),
            known: HashMap::new(),
            last: 0,
            fatal: None,
        };
        Self::new(schema, Plans::Registry(Box::new(plans)))
    }

    fn new(schema: SchemaRef, plans: Plans) -> Result<Self> {
        Ok(Self { record: columns(schema.fields())?, schema, rows: 0, plans })
    }
}

impl Decoder for ProtobufDecoder {
    fn decode(&mut self, payload: &[u8]) -> Result<(), String> {
        let (plan, message) = match &mut self.plans {
            Plans::One(plan) => (plan, payload),
            Plans::Registry(plans) => plans.find(payload, &self.schema)?,
        };
        match walk::row(message, plan, &mut self.record, self.rows) {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(bad) => {
                plan.reset();
                self.record.truncate(self.rows);
                Err(bad.reason(""))
            }
        }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.record.finish(rows)?;
        if let Plans::Registry(plans) = &mut self.plans
            && let Some(fatal) = plans.fatal.take()
        {
            return Err(fatal);
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

impl RegistryPlans {
    /// The plan for a payload, and the message in it.
    fn find<'p>(
        &mut self,
        payload: &'p [u8],
        schema: &SchemaRef,
    ) -> Result<(&mut Box<MessagePlan>, &'p [u8]), String> {
        // A frame tells its own end, so that no frame is the beginning of another.
        let again = self.plans.get(self.last).is_some_and(|last| payload.starts_with(&last.frame));
        if !again {
            self.last = self.find_frame(payload, schema)?;
        }
        let FramePlan { frame, plan } = &mut self.plans[self.last];
        match plan {
            Ok(plan) => Ok((plan, &payload[frame.len()..])),
            Err(reason) => Err(reason.clone()),
        }
    }

    fn find_frame(&mut self, payload: &[u8], schema: &SchemaRef) -> Result<usize, String> {
        let (id, rest) = framing::split(payload)?;
        let (indexes, length) = framing::read_indexes(rest)?;
        let frame = &payload[..framing::HEADER_BYTES + length];
        if let Some(known) = self.known.get(frame) {
            return Ok(*known);
        }
        if let Some(fatal) = &self.fatal {
            return Err(fatal.to_string());
        }
        if !self.checked {
            self.format.check(schema).map_err(|error| self.ends(error))?;
            self.checked = true;
        }
        let file = match self.format.writers.file(id) {
            Ok(file) => file?,
            Err(error) if error.kind() == ErrorKind::Permanent => return Err(error.to_string()),
            Err(error) => return Err(self.ends(error)),
        };
        let message = descriptors::at_indexes(&file, &indexes)?;
        let plan = self.plan(&message, schema).map_err(|reason| format!("schema {id}: {reason}"));
        self.known.insert(frame.into(), self.plans.len());
        self.plans.push(FramePlan { frame: frame.into(), plan });
        Ok(self.plans.len() - 1)
    }

    /// Keeps an error that no record is at fault for.
    fn ends(&mut self, error: Error) -> String {
        self.fatal.insert(error).to_string()
    }

    fn plan(
        &self,
        message: &MessageDescriptor,
        schema: &SchemaRef,
    ) -> Result<Box<MessagePlan>, String> {
        if let Some(wanted) =
            self.format.message.as_deref().filter(|name| *name != message.full_name())
        {
            return Err(format!("the message is a {}, and not a {wanted}", message.full_name()));
        }
        let plan = MessagePlan::new(message, schema.fields(), Absent::Null);
        plan.map(Box::new).map_err(|error| error.to_string())
    }
}
