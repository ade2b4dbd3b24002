"""Every control message, as pydantic models: strict, unknown keys refused, no NaN.

Field names are the keys on the wire. Bytes are bytes in msgpack and lower-case hex in JSON; inline payloads
exist only in msgpack. Fields that are None are not written.
"""

from thinwire.protocol.fields import MAX_INLINE_BYTES, MAX_MESSAGE_BYTES

from .attendance import Absence, Attendance, AttendanceList, Came
from .enrolment import (
    ClientLabel,
    ClientList,
    ClientLog,
    ClientView,
    Enrolled,
    Enrolment,
    Invite,
    InviteList,
    InviteRequest,
    InviteView,
    LogLine,
    OperatorToken,
    TokenRequest,
)
from .exchanges import (
    AnswerMessage,
    ChainsMessage,
    DeclineMessage,
    PartMessage,
    Plan,
    Registration,
    TaskMessage,
    VerdictMessage,
)
from .ledger import LEDGER_KINDS, Ledger, LedgerKind, LedgerRow, LinkRow
from .pending import AcceptRequest, PendingAnswer, PendingList, PendingRequest, PendingView
from .problem import Problem
from .problems import ProblemKind, ProblemList, ProblemView, Severity
from .runs import (
    BestModel,
    ExchangeMetrics,
    RunChange,
    RunCommand,
    RunList,
    RunMetrics,
    RunRequest,
    RunView,
    StoredModel,
)
from .webhooks import Webhook, WebhookList, WebhookRequest, WebhookTested, WebhookView

__all__ = [
    "LEDGER_KINDS",
    "MAX_INLINE_BYTES",
    "MAX_MESSAGE_BYTES",
    "Absence",
    "AcceptRequest",
    "AnswerMessage",
    "Attendance",
    "AttendanceList",
    "BestModel",
    "Came",
    "ChainsMessage",
    "ClientLabel",
    "ClientList",
    "ClientLog",
    "ClientView",
    "DeclineMessage",
    "Enrolled",
    "Enrolment",
    "ExchangeMetrics",
    "Invite",
    "InviteList",
    "InviteRequest",
    "InviteView",
    "Ledger",
    "LedgerKind",
    "LedgerRow",
    "LinkRow",
    "LogLine",
    "OperatorToken",
    "PartMessage",
    "PendingAnswer",
    "PendingList",
    "PendingRequest",
    "PendingView",
    "Plan",
    "Problem",
    "ProblemKind",
    "ProblemList",
    "ProblemView",
    "Registration",
    "RunChange",
    "RunCommand",
    "RunList",
    "RunMetrics",
    "RunRequest",
    "RunView",
    "Severity",
    "StoredModel",
    "TaskMessage",
    "TokenRequest",
    "VerdictMessage",
    "Webhook",
    "WebhookList",
    "WebhookRequest",
    "WebhookTested",
    "WebhookView",
]
