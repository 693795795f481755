impl<M: Machine> Editable<M> {
    pub(crate) fn shared_above(&self, va: Va) -> Error {
        if va >= WINDOWS {
            return Error::NoRight(va.0);
        }
        todo!(EXERCISE)
    }
}
