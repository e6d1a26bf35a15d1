// The frame of every page: masthead, navigation, time range, and the banner of a lost connection.

import {
  Alert,
  Breadcrumb,
  BreadcrumbItem,
  FormSelect,
  FormSelectOption,
  Masthead,
  MastheadBrand,
  MastheadContent,
  MastheadMain,
  MastheadToggle,
  Nav,
  NavItem,
  NavList,
  Page,
  PageSection,
  PageSidebar,
  PageSidebarBody,
  PageToggleButton,
  SkipToContent,
  Switch,
  Title,
  Toolbar,
  ToolbarContent,
  ToolbarItem,
} from '@patternfly/react-core';
import { lazy, Suspense, useEffect, useState } from 'react';
import { span } from './api/amounts';
import { LiveContext, useStream } from './api/live';
import { Certificates } from './pages/Certificates';
import { Namespaces } from './pages/Namespaces';
import { Overview } from './pages/Overview';
import { Policies } from './pages/Policies';
import { Proxies } from './pages/Proxies';
import { Services } from './pages/Services';
import { Workloads } from './pages/Workloads';
import { Waiting } from './parts/states';
import { href, useRoute, WINDOWS, type Route } from './route';
import { text } from './text';

// The graph's library is half of the console; it is fetched when it is wanted.
const Graph = lazy(() => import('./pages/Graph').then((module) => ({ default: module.Graph })));

type PageName = keyof typeof text.pages;
const PAGES = Object.keys(text.pages) as PageName[];
const DARK = 'mutua-dark';

function Content({ route }: { route: Route }) {
  switch (route.page as PageName) {
    case 'graph':
      return (
        <Suspense fallback={<Waiting />}>
          <Graph route={route} />
        </Suspense>
      );
    case 'namespaces':
      return <Namespaces route={route} />;
    case 'services':
      return <Services route={route} />;
    case 'workloads':
      return <Workloads route={route} />;
    case 'policies':
      return <Policies route={route} />;
    case 'certificates':
      return <Certificates />;
    case 'proxies':
      return <Proxies />;
    default:
      return <Overview route={route} />;
  }
}

function useDark(): [boolean, (dark: boolean) => void] {
  const [dark, setDark] = useState(() => {
    const chosen = localStorage.getItem(DARK);
    return chosen === null ? matchMedia('(prefers-color-scheme: dark)').matches : chosen === 'true';
  });
  useEffect(() => {
    document.documentElement.classList.toggle('pf-v6-theme-dark', dark);
  }, [dark]);
  const choose = (chosen: boolean) => {
    localStorage.setItem(DARK, String(chosen));
    setDark(chosen);
  };
  return [dark, choose];
}

function Head({ route, dark, setDark }: { route: Route; dark: boolean; setDark: (dark: boolean) => void }) {
  return (
    <Masthead>
      <MastheadMain>
        <MastheadToggle>
          <PageToggleButton isHamburgerButton aria-label={text.navigation} />
        </MastheadToggle>
        <MastheadBrand>
          <Title headingLevel="h2" size="xl">
            {text.product}
          </Title>
        </MastheadBrand>
      </MastheadMain>
      <MastheadContent>
        <Toolbar isStatic>
          <ToolbarContent alignItems="center">
            <ToolbarItem align={{ default: 'alignEnd' }}>
              <FormSelect
                aria-label={text.window}
                value={route.window}
                onChange={(_, window) => {
                  location.hash = href(route.page, route.about, window as Route['window']);
                }}
              >
                {WINDOWS.map((window) => (
                  <FormSelectOption key={window} value={window} label={text.windowOf(window)} />
                ))}
              </FormSelect>
            </ToolbarItem>
            <ToolbarItem>
              <Switch id="dark" label={text.dark} isChecked={dark} onChange={(_, checked) => setDark(checked)} />
            </ToolbarItem>
          </ToolbarContent>
        </Toolbar>
      </MastheadContent>
    </Masthead>
  );
}

function Side({ route }: { route: Route }) {
  return (
    <PageSidebar>
      <PageSidebarBody>
        <Nav aria-label={text.navigation}>
          <NavList>
            {PAGES.map((page) => (
              <NavItem key={page} isActive={route.page === page} to={href(page, null, route.window)}>
                {text.pages[page]}
              </NavItem>
            ))}
          </NavList>
        </Nav>
      </PageSidebarBody>
    </PageSidebar>
  );
}

function Lost({ since }: { since: number }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const tick = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(tick);
  }, []);
  return <Alert isInline variant="danger" title={text.lost(span(Math.floor((now - since) / 1000)))} />;
}

export function Console() {
  const live = useStream();
  const route = useRoute();
  const [dark, setDark] = useDark();
  const name = text.pages[route.page as PageName] ?? text.pages.overview;
  const title = route.about ?? name;
  useEffect(() => {
    document.title = `${title} · ${text.product}`;
  }, [title]);
  const lost = live.lostSince;
  return (
    <LiveContext.Provider value={live}>
      <Page
        masthead={<Head route={route} dark={dark} setDark={setDark} />}
        sidebar={<Side route={route} />}
        isManagedSidebar
        skipToContent={<SkipToContent href="#content">{text.skip}</SkipToContent>}
        mainContainerId="content"
      >
        <PageSection>
          {route.about !== null && (
            <Breadcrumb>
              <BreadcrumbItem to={href(route.page, null, route.window)}>{name}</BreadcrumbItem>
              <BreadcrumbItem isActive>{route.about}</BreadcrumbItem>
            </Breadcrumb>
          )}
          <Title headingLevel="h1">{title}</Title>
          {lost !== null && <Lost since={lost} />}
          {live.standing?.rejected && <Alert isInline variant="warning" title={live.standing.rejected} />}
        </PageSection>
        <PageSection isFilled className={lost === null ? '' : 'mutua-stale'}>
          <Content route={route} />
        </PageSection>
      </Page>
    </LiveContext.Provider>
  );
}
