/// S3's bounds, [Amazon S3 multipart upload
/// limits](https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html): bytes of a part (the
/// last may be smaller), and parts of an upload.
pub const MIN_PART_SIZE: u64 = 5 << 20;
pub const MAX_PART_SIZE: u64 = 5 << 30;
pub const MAX_PARTS: u64 = 10_000;

/// How one blob is cut into parts: all of `part_size` bytes but the last, which R2 insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPlan {
    /// Bytes.
    pub part_size: u64,
    /// Longest body this plan can hold, bytes.
    pub limit: u64,
    /// The body's length, where announced, bytes.
    pub length: Option<u64>,
}

impl PartPlan {
    /// `configured` is the smallest part size, `max_blob_size` the longest blob taken, both bytes.
    ///
    /// A body of unknown length is cut into parts of the configured size, so it cannot be longer
    /// than 10,000 of them.
    pub fn new(configured: u64, max_blob_size: u64, length: Option<u64>) -> Self {
        match length {
            Some(length) => Self {
                part_size: configured.max(length.div_ceil(MAX_PARTS)),
                limit: max_blob_size,
                length: Some(length),
            },
            None => Self {
                part_size: configured,
                limit: max_blob_size.min(configured.saturating_mul(MAX_PARTS)),
                length: None,
            },
        }
    }

    /// The memory the first part needs, bytes: less than a whole part where the body is shorter.
    pub fn first_part(&self) -> u64 {
        self.length
            .map_or(self.part_size, |length| length.min(self.part_size))
    }

    /// Whether the announced length alone says that there is more than one part.
    pub fn surely_multipart(&self) -> bool {
        self.length.is_some_and(|length| length > self.part_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn grows_only_where_ten_thousand_parts_would_not_do() {
        let plan = |length| PartPlan::new(16 * MIB, 5 << 40, length);
        assert_eq!(plan(Some(0)).part_size, 16 * MIB);
        assert_eq!(plan(Some(16 * MIB * MAX_PARTS)).part_size, 16 * MIB);
        assert_eq!(plan(Some(16 * MIB * MAX_PARTS + 1)).part_size, 16 * MIB + 1);
        assert_eq!(plan(None).part_size, 16 * MIB);
        assert_eq!(plan(None).limit, 16 * MIB * MAX_PARTS);
        assert_eq!(PartPlan::new(16 * MIB, MIB, None).limit, MIB);
    }

    proptest! {
        #[test]
        fn every_length_fits(configured in MIN_PART_SIZE..MAX_PART_SIZE, length in 0u64..(5 << 40)) {
            let plan = PartPlan::new(configured, 5 << 40, Some(length));
            prop_assert!(length.div_ceil(plan.part_size) <= MAX_PARTS);
            prop_assert!(plan.part_size >= configured && plan.part_size <= MAX_PART_SIZE);
            prop_assert_eq!(plan.surely_multipart(), length.div_ceil(plan.part_size) > 1);
            prop_assert!(plan.first_part() <= plan.part_size);
        }
    }
}
