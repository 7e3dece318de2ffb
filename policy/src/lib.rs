//! Pure decisions: may this object be in this tenant's namespace, and what does it lack
