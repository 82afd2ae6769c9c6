#!/bin/sh
# An exception: 40 users for corner-shop. Running it again does it once.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.TenantService/SetOverride <<'EOF'
{
  "tenant_id": "corner-shop",
  "override": {
    "target": {"limit": "max_users"},
    "value": {"maximum": 40},
    "until": "2099-01-31T00:00:00Z",
    "reason": "seasonal staff"
  },
  "request_id": "example-override-corner-shop"
}
EOF
