#!/bin/sh
# A whole tenant in one command. Running it again does it once.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.TenantService/StateTenant <<'EOF'
{
  "document": {
    "tenant_id": "stated",
    "title": "Stated, all of it in one command",
    "plan_id": "gold",
    "starts": "2026-01-01T00:00:00Z",
    "add_ons": [{"add_on_id": "extra-seats", "quantity": 2}],
    "overrides": [
      {
        "target": {"service": "reporting", "feature": "custom-reports"},
        "effect": "OVERRIDE_EFFECT_GRANT",
        "until": "2099-01-31T00:00:00Z",
        "reason": "pilot"
      }
    ]
  },
  "request_id": "example-state-stated"
}
EOF
