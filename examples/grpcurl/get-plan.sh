#!/bin/sh
# What gold is: its draft, its newest version.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.PlanService/GetPlan <<'EOF'
{
  "plan_id": "gold"
}
EOF
