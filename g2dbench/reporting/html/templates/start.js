makeFilters(document.getElementById("filters"));
leaderboardSection();
efficiencySection();
differencesSection();
curvesSection();
gallerySection();
costSection();
resultsSection();
document.documentElement.dataset.ready = "yes";
