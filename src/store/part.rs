use bytes::Bytes;

/// The bytes of one part, as the chunks they arrived in. Cloning copies no bytes, so that a part
/// can be sent again.
#[derive(Debug, Clone, Default)]
pub struct Part {
    chunks: Vec<Bytes>,
    len: u64,
}

impl Part {
    pub fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len() as u64;
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }
}

impl From<Bytes> for Part {
    fn from(bytes: Bytes) -> Self {
        let mut part = Part::default();
        part.push(bytes);
        part
    }
}
