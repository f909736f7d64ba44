//! Values of objects, which memory does not keep.

use rusqlite::{OptionalExtension, params};
use sheaf_model::{BucketName, ObjectKey, ObjectValue, Revision};

use crate::error::StoreError;
use crate::reader::Reader;

impl Reader {
    /// The version and the value of an object, as committed here; none: there is no such object.
    pub fn object(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<Option<(Revision, ObjectValue)>, StoreError> {
        self.read("read an object of", |db| {
            let sql = "SELECT version, value FROM objects JOIN object_values USING (bucket, key)
                       WHERE bucket = ? AND key = ?";
            let found = db.prepare_cached(sql)?.query_row(params![bucket.as_str(), key.as_str()], |row| {
                let version = row.get(0).map(i64::cast_unsigned).map(Revision)?;
                Ok((version, ObjectValue::from(row.get_ref(1)?.as_blob()?)))
            });
            found.optional()
        })
    }
}
