//! Lists a page at a time: tenants make as many objects as they like, and the operator's memory is everybody's.

use kube::api::{Api, DynamicObject, ListParams};

/// Objects of one page.
const PAGE: u32 = 200;

/// The objects behind an [`Api`], page by page.
#[derive(Debug)]
pub struct Pages {
    api: Api<DynamicObject>,
    /// Where the next page begins; None once the last was given.
    next: Option<String>,
}

impl Pages {
    /// Nothing is asked yet.
    pub fn of(api: Api<DynamicObject>) -> Self {
        Self { api, next: Some(String::new()) }
    }

    /// The next page; None after the last.
    ///
    /// # Errors
    /// What the API server said, also that a list took longer than it remembers (410): what was given until then holds.
    pub async fn next(&mut self) -> Result<Option<Vec<DynamicObject>>, kube::Error> {
        let Some(token) = self.next.take() else { return Ok(None) };
        let parameters = ListParams { continue_token: (!token.is_empty()).then_some(token), ..ListParams::default().limit(PAGE) };
        let page = self.api.list(&parameters).await?;
        self.next = page.metadata.continue_.filter(|token| !token.is_empty());
        Ok(Some(page.items))
    }
}
