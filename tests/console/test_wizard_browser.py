"""The wizard in a real browser: by mouse, by keyboard alone, without scripts; over a real yard of processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.agent.runtimes.engine import IMAGE, ensure_image
from tests.e2e.programs import until
from tests.e2e.yard import Yard
from tests.gateway.endpoint import Endpoint, definition, environment, queue
from tests.services.hand_agent import running

from batchyard.pods import pod_name
from batchyard.v1 import host_pb2

from .visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

BETA = "00000000-0000-4000-8000-000000000002"
TABS_MAX = 120


def open_page(chromium: Browser, endpoint: Endpoint, *, scripts: bool) -> Page:
    """Open a tab that knows the console's address."""
    origin = f"http://127.0.0.1:{endpoint.port}"
    page = chromium.new_context(base_url=origin, java_script_enabled=scripts).new_page()
    page.set_default_timeout(30_000)
    return page


def sign_in(page: Page, visitor: Visitor) -> None:
    page.goto(visitor.link())


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def tab_to(page: Page, target: Locator) -> None:
    """Press the tabulator until something has the focus."""
    for _ in range(TABS_MAX):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {target}")


def at(page: Page, step: str) -> None:
    """Expect a step: its heading, and its place in the list of steps."""
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Get started: {step}")
    expect(page.locator('[aria-current="step"]')).to_contain_text(step, ignore_case=True)


# From an empty yard to a log ------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Yard]:
    """Return a controller with nothing in it; the test starts its agent."""
    yard = Yard(tmp_path / "yard")
    yield yard
    yard.sweep()


def begin(yard: Yard, runtimes: str) -> None:
    """Start the controller and one agent; no environment, no queue."""
    yard.start_controller()
    yard.add_agent("a", cpus=2, runtimes=runtimes).start()
    with yard.client() as client:
        until(lambda: yard.is_ready(client, "a"), "the host is ready")


def log_of(yard: Yard, job_id: str) -> bytes:
    """Wait for the job's end and return its log."""
    with yard.client() as client:
        ended = client.wait(job_id, timeout_s=60)
        assert ended.exit_code == 0, ended
        return b"".join(client.read_logs(job_id))


def see_the_log(page: Page) -> None:
    """Find the log from the job's page, as a person would."""
    page.reload()
    page.get_by_role("link", name="Log", exact=True).first.click()
    expect(page.get_by_text("hello", exact=True).first).to_be_visible()


def by_mouse(page: Page) -> None:
    at(page, "orchestration type")
    press(page, "Next")
    at(page, "compute environment")
    expect(page.locator("aside")).to_contain_text("Selects 1 of 1 hosts")
    press(page, "Next")
    at(page, "job queue")
    press(page, "Next")
    at(page, "job definition")
    expect(page.locator("aside")).to_contain_text("1 of 1 ready hosts could hold it now")
    press(page, "Next")
    at(page, "job")
    press(page, "Next")
    at(page, "review")
    press(page, "Create resources")


def by_keyboard(page: Page) -> None:
    """Enter goes on; the tabulator reaches every button."""
    at(page, "orchestration type")
    tab_to(page, page.get_by_role("radio").first)
    page.keyboard.press("Enter")
    at(page, "compute environment")
    tab_to(page, page.get_by_label("Name", exact=True))
    page.keyboard.press("Enter")
    at(page, "job queue")
    tab_to(page, page.get_by_role("button", name="Back"))
    page.keyboard.press("Space")
    at(page, "compute environment")
    tab_to(page, page.get_by_role("button", name="Next"))
    page.keyboard.press("Space")
    at(page, "job queue")
    tab_to(page, page.get_by_label("Name"))
    page.keyboard.press("Enter")
    at(page, "job definition")
    tab_to(page, page.get_by_role("button", name="Next"))
    page.keyboard.press("Enter")
    at(page, "job")
    tab_to(page, page.get_by_label("Name"))
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    at(page, "review")
    tab_to(page, page.get_by_role("button", name="Create resources"))
    page.keyboard.press("Enter")


@pytest.mark.parametrize("way", ["mouse", "keyboard", "no scripts"])
def test_from_an_empty_yard_to_the_log_of_a_job(chromium: Browser, real: Yard, way: str) -> None:
    begin(real, "process")
    with Endpoint(controller=real.socket) as endpoint:
        page = open_page(chromium, endpoint, scripts=way != "no scripts")
        sign_in(page, Visitor(endpoint).sign_in())
        (by_keyboard if way == "keyboard" else by_mouse)(page)
        page.wait_for_url("**/console/jobs/*")
        assert log_of(real, page.url.rpartition("/")[2]) == b"hello\n"
        see_the_log(page)
        page.context.close()


@pytest.mark.docker
def test_from_an_empty_yard_to_the_log_of_a_container(chromium: Browser, real: Yard) -> None:
    ensure_image()
    begin(real, "docker")
    with Endpoint(controller=real.socket) as endpoint:
        page = open_page(chromium, endpoint, scripts=True)
        sign_in(page, Visitor(endpoint).sign_in())
        for _ in range(3):
            press(page, "Next")
        expect(page.get_by_label("Image")).to_have_value("busybox:latest")
        page.get_by_label("Image").fill(IMAGE)
        for _ in range(2):
            press(page, "Next")
        press(page, "Create resources")
        page.wait_for_url("**/console/jobs/*")
        assert log_of(real, page.url.rpartition("/")[2]) == b"hello\n"
        see_the_log(page)
        page.context.close()


# Steps --------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False])
def test_each_step_s_back_loses_nothing(chromium: Browser, visitor: Visitor, scripts: bool) -> None:
    page = open_page(chromium, visitor.endpoint, scripts=scripts)
    sign_in(page, visitor)
    press(page, "Next")
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_text("Kept for AWS, not used by your own machines").click()
    page.get_by_label("EC2 key pair").fill("pair")
    press(page, "Next")
    page.get_by_label("Priority").fill("7")
    press(page, "Next")
    page.get_by_label("Command").fill("echo 'two\nlines'")
    press(page, "Next")
    page.get_by_label("Name").fill("unsent")
    for step in ("job definition", "job queue", "compute environment", "orchestration type"):
        press(page, "Back")
        at(page, step)
    press(page, "Next")
    expect(page.get_by_label("Name", exact=True)).to_have_value("mine")
    expect(page.get_by_label("EC2 key pair")).to_have_value("pair")
    press(page, "Next")
    expect(page.get_by_label("Priority")).to_have_value("7")
    press(page, "Next")
    expect(page.get_by_label("Command")).to_have_value("echo 'two\nlines'")
    press(page, "Next")
    expect(page.get_by_label("Name")).to_have_value("unsent")
    page.context.close()


def test_kubernetes_cannot_be_chosen_and_says_why(visitor: Visitor, window: Page) -> None:
    sign_in(window, visitor)
    expect(window.get_by_role("radio", name="EKS")).to_be_disabled()
    expect(window.get_by_text("this yard has no agent for Kubernetes")).to_be_visible()


def test_where_there_is_a_cluster_the_walk_ends_with_a_pod(visitor: Visitor, window: Page) -> None:
    node = host_pb2.KubernetesFacts(cluster="c", namespace="jobs")
    agent = visitor.endpoint.agent(runtimes=["kubernetes"], kubernetes=node)
    sign_in(window, visitor)
    window.get_by_role("radio", name="EKS").check()
    press(window, "Next")
    expect(window.get_by_label("Cluster")).to_have_value(re.compile("^arn:aws:eks:.*:cluster/c$"))
    expect(window.get_by_label("Namespace")).to_have_value("jobs")
    expect(window.get_by_role("complementary")).to_contain_text("Selects 1 of 1 hosts")
    press(window, "Next")
    press(window, "Next")
    expect(window.get_by_role("complementary")).to_contain_text("1 of 1 ready hosts could hold it now")
    expect(window.get_by_label("Command")).to_have_value("echo hello")
    press(window, "Next")
    press(window, "Next")
    press(window, "Create resources")
    (spec,) = visitor.endpoint.run(agent.hear_starts())
    visitor.endpoint.run(agent.report(running(spec.attempt_id)))
    expect(window.get_by_text(f"{pod_name(spec.job_id)} in namespace jobs of cluster c")).to_be_visible()


def test_spot_hosts_are_counted_and_selected_as_one_chooses(visitor: Visitor, window: Page) -> None:
    """The panel follows what is chosen, without a button."""
    visitor.endpoint.agent()
    visitor.endpoint.agent(host_id=BETA, name="beta", purchase_option="spot", host_type="m5.large")
    sign_in(window, visitor)
    press(window, "Next")
    panel = window.get_by_role("complementary")
    expect(panel).to_contain_text("Selects 1 of 2 hosts")
    expect(panel).to_contain_text("beta: it is spot")
    window.get_by_role("combobox", name="Hosts").select_option("SPOT")
    expect(panel).to_contain_text("alpha: it is on-demand")
    window.get_by_label("Allowed instance types").fill("c5")
    window.get_by_label("Allowed instance types").blur()
    expect(panel).to_contain_text("Selects 0 of 2 hosts")
    expect(panel).to_contain_text("beta: its type is m5.large")
    expect(window.get_by_text("m5.large (1), workstation (1)")).to_be_visible()


def test_fargate_offers_sizes_and_hides_what_it_has_not(visitor: Visitor, window: Page) -> None:
    sign_in(window, visitor)
    window.get_by_role("radio", name="Fargate").check()
    press(window, "Next")
    expect(window.get_by_label("Allowed instance types")).to_have_count(0)
    press(window, "Next")
    press(window, "Next")
    expect(window.get_by_label("vCPUs")).to_have_count(0)
    window.get_by_label("Size").select_option("0.5:1024")
    press(window, "Next")
    press(window, "Skip the job")
    press(window, "Create resources")
    window.wait_for_url("**/console/definitions/hello:1")
    (told,) = visitor.endpoint.batch().describe_job_definitions()["jobDefinitions"]
    assert told["platformCapabilities"] == ["FARGATE"]
    assert {"type": "VCPU", "value": "0.5"} in told["containerProperties"]["resourceRequirements"]


def test_a_refusal_has_the_focus_and_leads_to_its_field(visitor: Visitor, page_of_422: Page) -> None:
    window = page_of_422
    sign_in(window, visitor)
    press(window, "Next")
    window.get_by_label("Maximum vCPUs").fill("none")
    press(window, "Next")
    expect(window.locator("#faults")).to_be_focused()
    window.get_by_role("link", name="Maximum vCPUs").click()
    expect(window.get_by_label("Maximum vCPUs")).to_be_focused()
    expect(window.get_by_label("Maximum vCPUs")).to_have_value("none")
    expect(window.get_by_label("Maximum vCPUs")).to_have_accessible_description(
        "Jobs hold no more at once. Maximum vCPUs: 'none' is not a whole number"
    )


def test_a_refused_creation_says_what_there_is_and_goes_on(visitor: Visitor, page_of_422: Page) -> None:
    window = page_of_422
    sign_in(window, visitor)
    for _ in range(3):
        press(window, "Next")
    window.get_by_label("Command").fill("echo Ref::what")
    press(window, "Look again")
    expect(window.get_by_role("complementary")).to_contain_text("Ref::what")
    press(window, "Next")
    press(window, "Next")
    press(window, "Create resources")
    expect(window.locator("#faults")).to_contain_text("No parameter found for reference what")
    expect(window.locator(".card.made")).to_have_count(3)
    expect(window.locator(".card.refused")).to_have_count(1)
    window.get_by_role("link", name="Edit Job definition").click()
    window.get_by_role("group", name="Parameters, row 1").get_by_label("Name").fill("what")
    window.get_by_role("group", name="Parameters, row 1").get_by_label("Value").fill("for")
    press(window, "Next")
    press(window, "Next")
    press(window, "Go on from here")
    window.wait_for_url("**/console/jobs/*")
    batch = visitor.endpoint.batch()
    assert len(batch.describe_compute_environments()["computeEnvironments"]) == 1
    assert len(batch.describe_job_queues()["jobQueues"]) == 1


@pytest.fixture
def page_of_422(chromium: Browser, endpoint: Endpoint) -> Iterator[Page]:
    """Return a tab in which answers of 4xx are expected; the browser calls each of them an error."""
    page = open_page(chromium, endpoint, scripts=True)
    yield page
    page.context.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_rows_and_the_words_of_a_command(chromium: Browser, visitor: Visitor, scripts: bool) -> None:
    page = open_page(chromium, visitor.endpoint, scripts=scripts)
    sign_in(page, visitor)
    page.goto("/console/start?step=definition")
    page.get_by_role("group", name="Parameters, row 1").get_by_label("Name").fill("a")
    press(page, "Add to Parameters a row")
    expect(page.get_by_role("group", name="Parameters, row 2").get_by_label("Name")).to_be_focused()
    page.keyboard.type("b")
    press(page, "Remove Parameters 1")
    expect(page.get_by_role("group", name="Parameters, row 1").get_by_label("Name")).to_have_value("b")
    command, shown = page.get_by_label("Command"), page.locator(".split code")
    command.fill("""python3 -c 'print("a b")' && ls""")
    if not scripts:
        press(page, "Show the words")
    expect(shown).to_have_text(["python3", "-c", 'print("a b")', "&&", "ls"])
    expect(page.get_by_text("No shell runs this: '&&'")).to_be_visible()
    if scripts:
        command.fill("echo 'a")
        expect(page.locator(".split")).to_have_text("The quote ' at character 6 is not closed: 'a")
    command.fill("cd / && ls")
    press(page, "Hand it to a shell: sh -c")
    expect(command).to_have_value("sh -c 'cd / && ls'")
    expect(shown).to_have_text(["sh", "-c", "cd / && ls"])
    page.context.close()


# Submit and definitions ------------------------------------------------------------------


def test_a_job_is_cloned_reviewed_and_submitted(visitor: Visitor, page_of_422: Page) -> None:
    window, batch = page_of_422, visitor.endpoint.batch()
    batch.create_compute_environment(**environment("ce"))
    batch.create_job_queue(**queue("q"))
    batch.register_job_definition(**definition("d"))
    job_id = batch.submit_job(jobName="j", jobQueue="q", jobDefinition="d", tags={"k": "<b>v</b>"})["jobId"]
    sign_in(window, visitor)
    window.goto(f"/console/jobs/new?clone={job_id}")
    expect(window.get_by_role("combobox", name="Definition")).to_have_value("d:1")
    window.get_by_label("Name", exact=True).fill("again")
    press(window, "Review")
    expect(window.get_by_role("cell", name="<b>v</b>")).to_be_visible()
    press(window, "Edit")
    expect(window.get_by_label("Name", exact=True)).to_have_value("again")
    press(window, "Review")
    press(window, "Submit")
    window.wait_for_url("**/console/jobs/*")
    (job,) = batch.describe_jobs(jobs=[window.url.rpartition("/")[2]])["jobs"]
    assert (job["jobName"], job["tags"]) == ("again", {"k": "<b>v</b>"})


def test_a_new_revision_is_made_and_compared(visitor: Visitor, window: Page) -> None:
    visitor.endpoint.batch().register_job_definition(**definition("d"))
    sign_in(window, visitor)
    window.goto("/console/definitions")
    window.get_by_role("link", name="d:1", exact=True).click()
    window.get_by_role("link", name="New revision").click()
    window.get_by_label("Image").fill("other")
    press(window, "Register")
    expect(window.get_by_role("heading", level=1)).to_have_text("Job definition d:2")
    window.get_by_label("Compare d:2 with revision").select_option("1")
    press(window, "Compare")
    expect(window.get_by_role("row", name="containerProperties.image other busybox")).to_be_visible()
    press(window, "Deregister d:2")
    expect(window.get_by_text("d:2 is INACTIVE")).to_be_visible()
