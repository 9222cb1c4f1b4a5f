//! The procedures: their names, and which of them change something.

/// Whether a call reads or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It reads.
    Query,
    /// It changes.
    Mutation,
}

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Procedure {
    InstanceGet,
    InstanceList,
    OperationGet,
    InstanceProvision,
    InstanceDestroy,
    InstanceStart,
    InstanceStop,
    InstanceUpdate,
}

impl Procedure {
    const ALL: [Self; 8] = [
        Self::InstanceGet,
        Self::InstanceList,
        Self::OperationGet,
        Self::InstanceProvision,
        Self::InstanceDestroy,
        Self::InstanceStart,
        Self::InstanceStop,
        Self::InstanceUpdate,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::InstanceGet => "instance.get",
            Self::InstanceList => "instance.list",
            Self::OperationGet => "operation.get",
            Self::InstanceProvision => "instance.provision",
            Self::InstanceDestroy => "instance.destroy",
            Self::InstanceStart => "instance.start",
            Self::InstanceStop => "instance.stop",
            Self::InstanceUpdate => "instance.update",
        }
    }

    pub(super) fn named(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|procedure| procedure.name() == path)
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::InstanceGet | Self::InstanceList | Self::OperationGet => Kind::Query,
            Self::InstanceProvision
            | Self::InstanceDestroy
            | Self::InstanceStart
            | Self::InstanceStop
            | Self::InstanceUpdate => Kind::Mutation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test `trpc::what_is_somebody_elses…` over HTTP goes through these. Whoever adds one here adds it there.
    #[test]
    fn these_are_swept() {
        let names = Procedure::ALL.map(Procedure::name);
        assert_eq!(names.len(), 8);
        assert_eq!(Procedure::named("instance.restart"), None);
        for name in names {
            assert_eq!(Procedure::named(name).map(Procedure::name), Some(name));
        }
    }
}
